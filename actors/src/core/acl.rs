//! Who may do what: checks and the normalisation of ACL lists.
