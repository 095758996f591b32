//! A describe by id, beside an empty call of the same sizes.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::Outcome;
use crate::calls::{Caller, Calls};
use crate::echo::{self, Echo};
use crate::lab::{Lab, best, progress};
use crate::load::{Target, Until, closed};
use crate::report::Side;
use crate::site::Site;
use crate::wire;

pub async fn by_id(lab: &mut Lab, site: &Site) -> Outcome<()> {
    let figure = "describe by id";
    progress(figure);
    let calls = site.describes().await?;
    let connection = wire::connect(site.service()?.address()).await?;
    let (head, frame) = calls.next();
    let (mut answer, request) = (0, frame.len() - 5);
    wire::call(&connection, head, frame, |piece| answer += piece.len()).await?;
    let answer = answer - 5;
    let echo = Echo::start(answer)?;
    let echoed = Target {
        address: echo.address(),
        pid: echo.pid(),
        ..site.target()?
    };
    // What it asks is not read, but has the same size.
    let mut frame = vec![0];
    frame.extend(u32::try_from(request)?.to_be_bytes());
    frame.resize(5 + request, b'q');
    let echoes = Rc::new(Calls::new(
        site.heads(echo::PATH)?,
        vec![(Caller::Any, Bytes::from(frame))],
    ));
    let target = site.target()?;
    let second = Until::Over(Duration::from_secs(1));
    progress("callers of certkeep, and of the echo");
    let choices = [32, 64, 128];
    let callers = best(&choices, async |callers| closed(target, &calls, callers, second).await).await?;
    let echo_callers = best(&choices, async |callers| closed(echoed, &echoes, callers, second).await).await?;
    let time = Until::Over(lab.seconds);
    let [ours, theirs] = lab
        .in_turn(
            async || closed(target, &calls, callers, time).await,
            async || closed(echoed, &echoes, echo_callers, time).await,
        )
        .await?;
    let callers = format!("certkeep, {callers} callers");
    let echo_callers = format!("echo of {answer} bytes, {echo_callers} callers");
    let (ours, theirs) = (
        Side {
            name: &callers,
            measured: &ours,
        },
        Side {
            name: &echo_callers,
            measured: &theirs,
        },
    );
    lab.report.throughput(figure, ours, theirs, "0.6");
    Ok(())
}
