//! The process: its memory, how soon it answers, its size.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::cpu::Memory;
use crate::lab::{Lab, progress};
use crate::load::{Until, closed};
use crate::measured::median;
use crate::service::{CERTKEEP, Service};
use crate::site::Site;
use crate::wire;

use super::upload::Prepared;

const STARTS: usize = 5;
const IDLE: Duration = Duration::from_secs(2);

/// Of a certkeep of its own: when it has done nothing, and under full load.
pub async fn memory(lab: &mut Lab, site: &Site, prepared: &Prepared) -> Outcome<()> {
    progress("memory");
    let service = site.further_service()?;
    tokio::time::sleep(IDLE).await;
    let idle = Memory::of(service.pid())?;
    let (target, time) = (site.target_of(&service), Until::Over(lab.time));
    let uploads = async || closed(target, &prepared.uploads.calls, prepared.many.callers, time).await;
    site.storing(uploads).await?;
    closed(target, &site.pages(50)?, prepared.many.callers, time).await?;
    let loaded = Memory::of(service.pid())?;
    let mut row = |figure: &str, memory: f64, to_reach: &str| {
        let memory = format!("{memory:.0} MiB");
        lab.report.row(figure, memory, String::new(), String::new(), to_reach);
    };
    row("memory, idle", idle.resident, "40 MiB");
    row("memory at full load, at most", loaded.peak, "150 MiB");
    let size = std::fs::metadata(CERTKEEP)?.len() as f64 / (1024.0 * 1024.0);
    row("size of the binary", size, "");
    Ok(())
}

/// From the start of the process to its first answer, on a database that is there.
pub async fn start(lab: &mut Lab, site: &Site) -> Outcome<()> {
    progress("start");
    let mut server = Vec::new();
    for _ in 0..STARTS {
        server.push(first_answer(|| site.further_service(), site.first_key()).await?);
    }
    told(lab, "start to first answer, a server's Postgres", &server, "150 ms");
    let data_dir = lab.scratch.dir().join("private");
    std::fs::create_dir(&data_dir)?;
    // Makes the database.
    drop(Service::start(&data_dir, &[])?);
    let key = std::fs::read_to_string(data_dir.join("admin.key"))?;
    let mut private = Vec::new();
    for _ in 0..STARTS {
        let start = || Service::start(Path::new(&data_dir), &[]);
        private.push(first_answer(start, key.trim()).await?);
    }
    told(lab, "start to first answer, the private Postgres", &private, "1000 ms");
    Ok(())
}

fn told(lab: &mut Lab, figure: &str, millis: &[f64], to_reach: &str) {
    let certkeep = format!("{:.0} ms", median(millis));
    lab.report.row(figure, certkeep, String::new(), String::new(), to_reach);
}

/// In milliseconds. Of a service that then ends.
async fn first_answer(start: impl FnOnce() -> Outcome<Service>, key: &str) -> Outcome<f64> {
    let began = Instant::now();
    let service = start()?;
    let connection = wire::connect(service.address()).await?;
    let (head, frame) = crate::site::cheapest(key)?;
    wire::call(&connection, &head, frame, |_| {}).await?;
    let millis = began.elapsed().as_secs_f64() * 1000.0;
    drop(connection);
    // Its task hangs up.
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(millis)
}
