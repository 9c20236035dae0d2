//! While a key is in memory, a program that dies leaves no image of it on disk.
//!
//! Not for longer: a process without core dumps hides from the user's own `ports` and `doctor` as well.

/// Runs what has a key in memory, whoever else does so at the same time.
pub(super) fn without<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    let _back = linux::Hidden::begin();
    work()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

    /// The process is one for all threads: the first to hide it does, the last brings back what was before.
    #[derive(Debug)]
    struct Hiding {
        threads: usize,
        before: Option<DumpableBehavior>,
    }

    static HIDING: Mutex<Hiding> = Mutex::new(Hiding { threads: 0, before: None });

    fn hiding() -> MutexGuard<'static, Hiding> {
        HIDING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) struct Hidden(());

    impl Hidden {
        pub(super) fn begin() -> Self {
            let mut hiding = hiding();
            if hiding.threads == 0 {
                hiding.before = dumpable_behavior().ok();
                // Where the system refuses, it is as it always was.
                let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
            }
            hiding.threads += 1;
            Self(())
        }
    }

    impl Drop for Hidden {
        fn drop(&mut self) {
            let mut hiding = hiding();
            hiding.threads -= 1;
            if let Some(before) = hiding.before.filter(|_| hiding.threads == 0) {
                let _ = set_dumpable_behavior(before);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::{sync::mpsc, thread};

        use super::*;

        #[test]
        fn who_is_done_first_uncovers_nobody_else() {
            let (begun, begin) = mpsc::channel();
            let (ended, end) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(move || {
                    crate::tls::dump::without(|| {
                        begun.send(()).unwrap();
                        end.recv().unwrap();
                        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
                    });
                });
                begin.recv().unwrap();
                crate::tls::dump::without(|| ());
                ended.send(()).unwrap();
            });
        }
    }
}
