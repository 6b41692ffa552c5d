//! Merkle tree, signed notes, checkpoints, inclusion and consistency proofs.
