//! What a port is mostly used for: the first guess of whoever meets it.

use crate::config::DEFAULT_PORT;

/// By port. Only defaults that a developer meets; the registry of IANA knows thousands that nobody does.
const USUAL: [(u16, &str); 32] = [
    (1025, "the SMTP port of Mailpit"),
    (1433, "SQL Server"),
    (2019, "the admin port of Caddy"),
    (3000, "Next.js, Rails and Express"),
    (3306, "MySQL and MariaDB"),
    (4000, "Phoenix and Jekyll"),
    (4173, "`vite preview`"),
    (4200, "Angular's dev server"),
    (4321, "Astro"),
    (5000, "Flask, and AirPlay of macOS"),
    (5005, "the debugger port of Java"),
    (5173, "Vite's dev server"),
    (5432, "PostgreSQL"),
    (5555, "Prisma Studio"),
    (5672, "RabbitMQ"),
    (5678, "the debugger port of Python (debugpy)"),
    (6006, "Storybook"),
    (6379, "Redis"),
    (7000, "AirPlay of macOS"),
    (8000, "Django, uvicorn and `python -m http.server`"),
    (8025, "the page of Mailpit"),
    (8080, "webpack's dev server, Tomcat and Spring Boot"),
    (8888, "Jupyter"),
    (9000, "PHP-FPM"),
    (9003, "the debugger port of PHP (Xdebug)"),
    (9090, "Prometheus"),
    (9200, "Elasticsearch"),
    (9229, "the inspector of Node"),
    (11211, "memcached"),
    (15672, "the page of RabbitMQ"),
    (27017, "MongoDB"),
    (DEFAULT_PORT, "portolan itself"),
];

/// Whose default `port` is: goes on after "this port is mostly ".
pub fn usual(port: u16) -> Option<&'static str> {
    USUAL.iter().find(|(known, _)| *known == port).map(|(_, usual)| *usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_once_and_in_order() {
        assert!(USUAL.is_sorted_by(|one, other| one.0 < other.0));
    }

    #[test]
    fn a_port_that_two_programs_like_names_both() {
        assert_eq!(usual(5000), Some("Flask, and AirPlay of macOS"));
        assert_eq!(usual(5001), None);
    }
}
