//! A process that ends with the harness, whatever ends that.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long one that was asked to stop may take.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A shell that runs a script when its pipe is closed: by this process, or by its end.
pub struct Watcher(Child);

impl Watcher {
    /// The script's arguments are `$1` and so on.
    pub fn start(script: &str, arguments: &[&str]) -> io::Result<Self> {
        Command::new("sh")
            .args(["-c", &format!("read -r _; {script}"), "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map(Self)
    }

    /// Lets the script run, and waits for it.
    pub fn close(mut self) -> io::Result<()> {
        drop(self.0.stdin.take());
        self.0.wait().map(drop)
    }

    /// The script is not run.
    pub fn call_off(&mut self) {
        // One that has ended needs none.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process. Dropped, it is told to stop and waited for.
pub struct KeptChild {
    pub child: Child,
    watcher: Watcher,
}

impl KeptChild {
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        match Watcher::start(r#"kill -TERM "$1""#, &[&child.id().to_string()]) {
            Ok(watcher) => Ok(Self { child, watcher }),
            Err(error) => {
                let _ = child.kill();
                Err(error)
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for KeptChild {
    fn drop(&mut self) {
        // First: by its turn the number could be another's.
        self.watcher.call_off();
        if let Some(pid) = Pid::from_raw(self.pid()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > STOPS_WITHIN {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
