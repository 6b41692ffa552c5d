//! Composition root: the only room that names every concrete type; start and drain order.
