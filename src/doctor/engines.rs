//! Whether the engines of containers answer.
//!
//! One that is absent is no fault until a route leads to a container.

use super::{Finding, listed};
use crate::{
    config::{Address, Config, Sought},
    discover::{
        self,
        container::{Engine, Reach, Trouble},
    },
};

const CHECK: &str = "containers";

/// One that answers is enough.
pub(super) fn examine(config: Option<&Config>, engines: &[Engine]) -> Vec<Finding> {
    let routes: Vec<_> = config.into_iter().flat_map(routes_to_containers).collect();
    let answering = engines.iter().filter_map(|engine| match &engine.state {
        Reach::Reached { version } => Some(format!("{version} answers ({})", engine.place)),
        Reach::Asked | Reach::Absent(_) => None,
    });
    let answering = listed(answering);
    if !answering.is_empty() {
        return vec![Finding::ok(CHECK, answering)];
    }
    if engines.is_empty() && routes.is_empty() {
        return vec![Finding::ok(CHECK, "there is no container engine here, and no route needs one")];
    }
    if engines.is_empty() {
        let message = format!("{} to a container, and there is no engine here", leads(&routes));
        return vec![Finding::problem(CHECK, message).help("install Docker or Podman, or set DOCKER_HOST")];
    }
    engines.iter().map(|engine| word(engine, &routes)).collect()
}

fn routes_to_containers(config: &Config) -> impl Iterator<Item = String> {
    let is_container = |address: &Address| matches!(address, Address::Followed(Sought::Container { .. }));
    let routes = config.routes.iter().filter(move |route| discover::targets(route).any(is_container));
    routes.map(|route| format!("`{}`", route.name))
}

/// An engine that does not answer.
fn word(engine: &Engine, routes: &[String]) -> Finding {
    let place = &engine.place;
    let (why, help) = match &engine.state {
        Reach::Absent(trouble) => (trouble.to_string(), trouble.help(place.tool)),
        Reach::Asked | Reach::Reached { .. } => {
            ("no answer within 1 s".into(), Trouble::Silent(std::time::Duration::from_secs(1)).help(place.tool))
        }
    };
    if routes.is_empty() {
        Finding::ok(CHECK, format!("{place}: {why}; no route needs it"))
    } else {
        Finding::problem(CHECK, format!("{place}: {why}")).note(format!("{} to a container", leads(routes))).help(help)
    }
}

fn leads(routes: &[String]) -> String {
    if routes.len() == 1 { format!("route {} leads", routes[0]) } else { format!("routes {} lead", listed(routes)) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Verdict, table},
        *,
    };
    use crate::discover::container::samples;

    const NEEDED: &str = "[routes]\nweb = { to = { container = \"shop-web\", port = 80 } }\n";

    fn docker(state: Reach) -> Engine {
        Engine { place: samples::docker(), state }
    }

    #[test]
    fn no_engine_is_no_fault_until_a_route_needs_one() {
        let expected = Finding::ok("containers", "there is no container engine here, and no route needs one");
        assert_eq!(examine(Some(&table("[routes]\nweb = 5173\n")), &[]), [expected]);
        let told = examine(Some(&table(NEEDED)), &[]);
        assert_eq!(told[0].verdict, Verdict::Problem);
        assert_eq!(told[0].message, "route `web` leads to a container, and there is no engine here");
    }

    #[test]
    fn an_engine_that_answers_is_enough() {
        let podman = Engine { place: samples::podman(), state: Reach::Absent(Trouble::Denied) };
        let engines = [podman, docker(Reach::Reached { version: "Docker 28.5.2".into() })];
        let expected = Finding::ok("containers", "Docker 28.5.2 answers (docker at /var/run/docker.sock)");
        assert_eq!(examine(Some(&table(NEEDED)), &engines), [expected]);
    }

    #[test]
    fn an_engine_of_another_user_is_told_with_the_group_where_a_route_needs_it() {
        let engines = [docker(Reach::Absent(Trouble::Denied))];
        assert_eq!(examine(None, &engines)[0].verdict, Verdict::Ok);
        let told = examine(Some(&table(NEEDED)), &engines).remove(0);
        assert_eq!(told.verdict, Verdict::Problem);
        assert_eq!(told.message, "docker at /var/run/docker.sock: this user may not open the socket");
        assert_eq!(told.notes, ["route `web` leads to a container"]);
        assert!(told.help.as_deref().unwrap().contains("`sudo usermod -aG docker"), "{told:?}");
    }

    #[test]
    fn an_engine_that_is_slow_is_not_called_well() {
        let told = examine(Some(&table(NEEDED)), &[docker(Reach::Asked)]).remove(0);
        assert_eq!(told.message, "docker at /var/run/docker.sock: no answer within 1 s");
        assert_eq!(told.help.as_deref(), Some("see whether it is well: `docker ps`"));
    }
}
