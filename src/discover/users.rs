//! The names of users, where the system keeps them in a file.

/// What the user of this number is called; `None` where only a directory service knows.
pub fn user_name(uid: u32) -> Option<String> {
    name_in(&std::fs::read_to_string("/etc/passwd").ok()?, uid)
}

/// The user's line of `man 5 passwd`: `root:x:0:0:…`.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number_and_not_by_group() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# a remark\nada:x:1000:100:Ada:/home/ada:/bin/sh\n";
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(name_in(passwd, 100), None);
    }

    #[test]
    fn torn_lines_name_nobody() {
        for passwd in ["", ":x:7:7", "ada:x", "ada:x:seven:7"] {
            assert_eq!(name_in(passwd, 7), None, "{passwd}");
        }
    }
}
