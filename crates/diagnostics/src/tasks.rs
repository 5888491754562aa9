//! The long-lived tasks of a process, and the first of them that has failed.
//!
//! A task that panics ends alone: the process goes on without what the task was for, such as following the purge log or telling
//! webhooks. So each task that lives as long as the process is watched, and `/readyz` answers 503 from the first failure on.

use std::sync::{Arc, OnceLock};

/// Tasks and threads that live as long as their process.
#[derive(Debug, Clone, Default)]
pub struct WatchedTasks {
    failed: Arc<OnceLock<&'static str>>,
}

/// Notes a panic of the code that runs while this lives.
#[derive(Debug)]
pub struct TaskGuard {
    tasks: WatchedTasks,
    name: &'static str,
}

impl WatchedTasks {
    /// Returns a future that runs `task` and notes its panic under `name`. Dropping the future notes nothing.
    pub async fn watch<F: Future>(self, name: &'static str, task: F) -> F::Output {
        let _guard = self.guard(name);
        task.await
    }

    /// Returns a guard for the code of a thread.
    #[must_use]
    pub fn guard(&self, name: &'static str) -> TaskGuard {
        TaskGuard { tasks: self.clone(), name }
    }

    /// Notes that a task has failed.
    pub fn fail(&self, name: &'static str) {
        if self.failed.set(name).is_ok() {
            tracing::error!(task = name, "a task of this process has failed: restart the process");
        }
    }

    /// Name of the first task that has failed.
    #[must_use]
    pub fn failed(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }

    /// Why the process is not ready, for `/readyz`.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<String> {
        self.failed().map(|name| format!("a task of this process has failed ({name}): read its log, and restart it"))
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tasks.fail(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_task_or_a_thread_is_noted_and_nothing_else_is() {
        let tasks = WatchedTasks::default();
        tokio::spawn(tasks.clone().watch("ends", async {})).await.unwrap();
        let endless = tokio::spawn(tasks.clone().watch("aborted", std::future::pending::<()>()));
        tokio::task::yield_now().await;
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
        assert_eq!(tasks.failed(), None);
        let failing = tokio::spawn(tasks.clone().watch("reads", async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        }));
        assert!(failing.await.unwrap_err().is_panic());
        assert_eq!(tasks.failed(), Some("reads"));
        assert!(tasks.why_not_ready().unwrap().contains("(reads)"));

        let tasks = WatchedTasks::default();
        let guard = tasks.guard("writes");
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(tasks.failed(), Some("writes"));
        tasks.fail("another");
        assert_eq!(tasks.failed(), Some("writes"), "the first one");
    }
}
