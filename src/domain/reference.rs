//! What a reference image leaves open about a person.

use super::words::words;

words! {
    /// Why one person's word is not enough to activate a customer.
    SecondPersonReason {
        /// The source of reference images has nobody by the customer's number.
        NoReference = "no_reference",
        /// The reference image shows no face that can be compared.
        ReferenceUnusable = "reference_unusable",
        /// The customer's captures do not match the reference image.
        ReferenceDiffers = "reference_differs",
        /// No source is configured, and the bank wants two people for everybody.
        TwoPeople = "two_people",
        /// The customer was active before, and further captures take two people.
        ActiveBefore = "active_before",
    }
}
