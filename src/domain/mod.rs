//! The rules of quota. Pure: time comes in as an argument.

pub mod window;
