//! Digests, HMAC, AEAD, signatures, randomness: the only user of ring.
