//! EncodedImage to DecodedImage; every bound checked before memory is spent.
