//! Facts and rules give a decision; pure.
