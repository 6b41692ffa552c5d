//! The devices that take captures, and what they sign with.

use super::words::words;

words! {
    /// How well a sensor keeps its key, from the weaker.
    TrustLevel {
        /// In software: whoever owns the device's memory owns the key.
        SoftwareKey = "software_key",
        /// In a secure element that never gives it away.
        SecureElement = "secure_element",
    }
}

words! {
    /// What a sensor captures.
    SensorModality {
        /// A camera, of faces.
        Face = "face",
        /// A scanner, of fingers.
        Finger = "finger",
    }
}

words! {
    /// What a sensor itself says of whether something living was before it.
    SensorVerdict {
        /// It does not look.
        None = "none",
        /// It takes it for living.
        Live = "live",
        /// It takes it for a picture, a screen, a mask or a cast.
        Suspect = "suspect",
    }
}

words! {
    /// Where a sensor's key stands.
    SensorKeyStanding {
        /// Captures under it count.
        Active = "active",
        /// It counts again once an administrator resumes it.
        Suspended = "suspended",
        /// Another key took its place, and the overlap is over.
        Replaced = "replaced",
        /// Revoked for good.
        Revoked = "revoked",
    }
}

/// Longest text about a sensor's firmware or camera, in characters.
pub const SENSOR_TEXT_CHARS_MAX: usize = 256;
