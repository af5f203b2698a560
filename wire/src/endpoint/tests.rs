//! A pair of ends in virtual order.
