//! The generated wire types and the descriptor bytes.
