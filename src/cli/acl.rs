//! ACLs in words: `scheme:id:perms`, several with commas between them. An id may have colons of its own.

use crate::client::{Acl, Id, perms};

/// The letters of permissions, in the order in which they are printed.
const LETTERS: [(char, i32); 5] = [
    ('c', perms::CREATE),
    ('d', perms::DELETE),
    ('r', perms::READ),
    ('w', perms::WRITE),
    ('a', perms::ADMIN),
];

/// Reads a list. What does not read is left out, with a remark each: whatever remains is for the server to judge.
pub fn parse(text: &str) -> (Vec<Acl>, Vec<String>) {
    let (mut acls, mut remarks) = (Vec::new(), Vec::new());
    // As Java splits: what is empty at the end does not count.
    for entry in text.trim_end_matches(',').split(',') {
        match (entry.find(':'), entry.rfind(':')) {
            (Some(first), Some(last)) if first < last => {
                let perms = parse_perms(&entry[last + 1..], &mut remarks);
                acls.push(Acl { perms, id: Id::new(&entry[..first], &entry[first + 1..last]) });
            }
            _ => remarks.push(format!("{entry} does not have the form scheme:id:perm")),
        }
    }
    (acls, remarks)
}

fn parse_perms(letters: &str, remarks: &mut Vec<String>) -> i32 {
    let mut perms = 0;
    for letter in letters.chars() {
        match LETTERS.iter().find(|(known, _)| *known == letter) {
            Some((_, bit)) => perms |= bit,
            None => remarks.push(format!("Unknown perm type: {letter}")),
        }
    }
    perms
}

/// The letters of permissions.
pub fn letters(perms: i32) -> String {
    LETTERS.iter().filter(|(_, bit)| perms & bit != 0).map(|(letter, _)| letter).collect()
}

/// An entry as Apache prints it: the id as a record of Java's, its newline included.
pub fn print(acl: &Acl) -> String {
    format!("'{},'{}\n: {}", escape(&acl.id.scheme), escape(&acl.id.id), letters(acl.perms))
}

/// What would break the form of a record.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' | '\n' | '\r' | ',' | '}' | '%' => escaped += &format!("%{:02X}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_printed() {
        let (acls, remarks) = parse("world:anyone:cdrwa,digest:bob:aGFzaA==:rw,ip:::1:r");
        assert_eq!(remarks, Vec::<String>::new());
        assert_eq!(acls[0], Acl::world(perms::ALL));
        assert_eq!(acls[1], Acl { perms: perms::READ | perms::WRITE, id: Id::new("digest", "bob:aGFzaA==") });
        assert_eq!(acls[2].id, Id::new("ip", "::1"));
        assert_eq!(print(&acls[0]), "'world,'anyone\n: cdrwa");
        assert_eq!(print(&acls[1]), "'digest,'bob:aGFzaA==\n: rw");
        assert_eq!(print(&Acl { perms: 0, id: Id::new("x", "50%,") }), "'x,'50%25%2C\n: ");
    }

    #[test]
    fn what_does_not_read_is_remarked_on() {
        let (acls, remarks) = parse("world:anyone:rz,nonsense,a:b");
        assert_eq!(acls, [Acl::world(perms::READ)]);
        assert_eq!(
            remarks,
            [
                "Unknown perm type: z",
                "nonsense does not have the form scheme:id:perm",
                "a:b does not have the form scheme:id:perm"
            ]
        );
        assert_eq!(parse("auth::r").0[0].id, Id::new("auth", ""));
    }
}
