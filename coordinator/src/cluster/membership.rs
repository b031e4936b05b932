//! The rules of membership: joining, leases, loss, draining. Pure: the clock is handed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshwork_engine::node::{Announcement, NodeState, TaskStatus, VERSION};
use meshwork_engine::{Error, Result, environment};
use url::Url;

/// A worker that was not heard of for so long gets no tasks. Workers announce themselves every second.
const LEASE: Duration = Duration::from_secs(5);
/// A worker that failed a probe is not believed for so long, even if it goes on announcing itself.
const DISTRUST: Duration = Duration::from_secs(5);
/// A lost worker is shown for so long.
const MEMORY: Duration = Duration::from_secs(60);
/// More workers than this are refused.
const WORKERS_MAX: usize = 10_000;

/// Where a worker stands, as the coordinator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeStatus {
    /// Gets tasks.
    Active,
    /// Finishes its tasks, gets no new ones.
    Draining,
    /// Was not heard of, or did not answer.
    Lost,
}

impl NodeStatus {
    /// The status as `system.nodes` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

/// A worker as `system.nodes` shows it.
#[derive(Debug, Clone)]
pub struct WorkerNode {
    /// Where tasks are sent to.
    pub url: Url,
    /// Its version.
    pub version: String,
    /// Differs between two processes at one address.
    pub instance: String,
    /// Where it stands.
    pub status: NodeStatus,
    /// Tasks that it held when it last announced itself.
    pub n_tasks_running: usize,
    /// How far they were then.
    pub tasks: Vec<TaskStatus>,
    /// When it joined, in microseconds since the Unix epoch.
    pub joined_unix_micros: i64,
    /// How long ago it was last heard of.
    pub silent_for: Duration,
}

#[derive(Debug)]
struct Member {
    announcement: Announcement,
    joined_unix_micros: i64,
    heard: Instant,
    /// Set by a failed probe.
    distrusted_until: Option<Instant>,
}

impl Member {
    fn status(&self, now: Instant) -> NodeStatus {
        let silent = now.duration_since(self.heard) >= LEASE;
        if silent || self.distrusted_until.is_some_and(|until| now < until) {
            return NodeStatus::Lost;
        }
        match self.announcement.state {
            NodeState::Active => NodeStatus::Active,
            NodeState::Draining | NodeState::Left => NodeStatus::Draining,
        }
    }
}

/// The workers heard of, by address.
#[derive(Debug, Default)]
pub(super) struct Membership {
    members: BTreeMap<Url, Member>,
}

impl Membership {
    /// Takes a sign of life.
    pub(super) fn announce(&mut self, announcement: Announcement, now: Instant) -> Result<()> {
        let Announcement { url, version, state, .. } = &announcement;
        if version != VERSION {
            return Err(Error::user(
                "VERSION_MISMATCH",
                format!("worker {url} has version {version}, the coordinator has {VERSION}"),
            )
            .with_hint("Run the same version of meshwork on all nodes."));
        }
        self.forget_the_long_lost(now);
        if *state == NodeState::Left {
            if self.members.remove(url).is_some() {
                tracing::info!(worker = %url, "worker left");
            }
            return Ok(());
        }
        match self.members.get_mut(url) {
            Some(member) if member.announcement.instance == announcement.instance => {
                if member.announcement.state != *state {
                    tracing::info!(worker = %url, ?state, "worker changed its state");
                }
                member.announcement = announcement;
                member.heard = now;
            }
            _ => self.join(announcement, now)?,
        }
        Ok(())
    }

    fn join(&mut self, announcement: Announcement, now: Instant) -> Result<()> {
        if self.members.len() >= WORKERS_MAX {
            let message = format!("the cluster has {WORKERS_MAX} workers, which is its limit");
            return Err(Error::resources("TOO_MANY_WORKERS", message));
        }
        tracing::info!(worker = %announcement.url, instance = announcement.instance, "worker joined");
        let joined_unix_micros = environment::unix_micros();
        let url = announcement.url.clone();
        let member =
            Member { announcement, joined_unix_micros, heard: now, distrusted_until: None };
        self.members.insert(url, member);
        Ok(())
    }

    /// Takes a worker that did not answer out of planning.
    pub(super) fn lose(&mut self, url: &Url, now: Instant) {
        if let Some(member) = self.members.get_mut(url) {
            member.distrusted_until = Some(now + DISTRUST);
        }
    }

    /// The workers that may be given tasks.
    pub(super) fn active(&self, now: Instant) -> Vec<Url> {
        let active = |(_, member): &(&Url, &Member)| member.status(now) == NodeStatus::Active;
        self.members.iter().filter(active).map(|(url, _)| url.clone()).collect()
    }

    /// Everyone, sorted by address.
    pub(super) fn nodes(&mut self, now: Instant) -> Vec<WorkerNode> {
        self.forget_the_long_lost(now);
        let node = |(url, member): (&Url, &Member)| WorkerNode {
            url: url.clone(),
            version: member.announcement.version.clone(),
            instance: member.announcement.instance.clone(),
            status: member.status(now),
            n_tasks_running: member.announcement.n_tasks_running,
            tasks: member.announcement.tasks.clone(),
            joined_unix_micros: member.joined_unix_micros,
            silent_for: now.duration_since(member.heard),
        };
        self.members.iter().map(node).collect()
    }

    fn forget_the_long_lost(&mut self, now: Instant) {
        self.members.retain(|_, member| now.duration_since(member.heard) < MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(port: u16, state: NodeState) -> Announcement {
        Announcement {
            url: url(port),
            version: VERSION.to_owned(),
            instance: "one".to_owned(),
            state,
            n_tasks_running: 0,
            tasks: Vec::new(),
        }
    }

    fn url(port: u16) -> Url {
        Url::parse(&format!("http://127.0.0.1:{port}/")).expect("an address")
    }

    fn joined(ports: &[u16], now: Instant) -> Membership {
        let mut membership = Membership::default();
        for port in ports {
            let sign = announcement(*port, NodeState::Active);
            membership.announce(sign, now).expect("is let in");
        }
        membership
    }

    #[test]
    fn a_silent_worker_is_out_of_planning_after_its_lease() {
        let start = environment::instant();
        let mut membership = joined(&[1, 2], start);
        let later = start + LEASE - Duration::from_millis(1);
        assert_eq!(membership.active(later), [url(1), url(2)]);
        membership.announce(announcement(2, NodeState::Active), later).expect("is let in");
        assert_eq!(membership.active(start + LEASE), [url(2)]);
        assert_eq!(membership.nodes(start + LEASE)[0].status, NodeStatus::Lost);
        membership.announce(announcement(1, NodeState::Active), start + LEASE).expect("is let in");
        assert_eq!(membership.active(start + LEASE), [url(1), url(2)], "it may come back");
    }

    #[test]
    fn a_worker_that_failed_a_probe_is_not_believed_for_a_while() {
        let start = environment::instant();
        let mut membership = joined(&[1, 2], start);
        membership.lose(&url(1), start);
        let soon = start + Duration::from_secs(1);
        membership.announce(announcement(1, NodeState::Active), soon).expect("is let in");
        assert_eq!(membership.active(soon), [url(2)]);
        let later = start + DISTRUST;
        membership.announce(announcement(1, NodeState::Active), later).expect("is let in");
        assert_eq!(membership.active(later), [url(1)]);
    }

    #[test]
    fn a_new_process_at_the_address_of_a_lost_one_is_believed_at_once() {
        let start = environment::instant();
        let mut membership = joined(&[1], start);
        membership.lose(&url(1), start);
        let restarted =
            Announcement { instance: "two".into(), ..announcement(1, NodeState::Active) };
        membership.announce(restarted, start).expect("is let in");
        assert_eq!(membership.active(start), [url(1)]);
    }

    #[test]
    fn draining_and_left_workers_get_no_tasks() {
        let now = environment::instant();
        let mut membership = joined(&[1, 2, 3], now);
        membership.announce(announcement(1, NodeState::Draining), now).expect("is let in");
        membership.announce(announcement(2, NodeState::Left), now).expect("is let in");
        assert_eq!(membership.active(now), [url(3)]);
        let shown: Vec<_> = membership.nodes(now).into_iter().map(|node| node.status).collect();
        assert_eq!(shown, [NodeStatus::Draining, NodeStatus::Active]);
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let other = Announcement { version: "9.9.9".into(), ..announcement(1, NodeState::Active) };
        let refused =
            Membership::default().announce(other, environment::instant()).expect_err("is refused");
        assert_eq!(refused.code, "VERSION_MISMATCH");
        assert!(refused.message.contains("9.9.9"), "{refused}");
    }
}
