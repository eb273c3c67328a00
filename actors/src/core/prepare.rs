//! Turning a request into a transaction, against the tree and what is proposed but not yet applied.
