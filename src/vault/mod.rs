//! Seals templates; AAD binds ciphertext to its row; the key ring.
