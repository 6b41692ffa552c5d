//! Verifies an exported ledger, or one receipt with its proof, from outside: no gateway, no database.
