//! How a learner is brought into step: DIFF, TRUNC or SNAP, decided by one pure function.
