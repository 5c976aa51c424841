//! The process that answers: every connection to its port is a flow.

use std::{io, net::Ipv6Addr};

use tokio::{
    net::{TcpListener, TcpStream},
    select,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{
    end::End,
    message::{answer, flow_of, question},
    report::Report,
};

/// Answers at a port, in both families, until it is told to end (SIGTERM). What goes on then is lost.
///
/// # Errors
/// Where the port cannot be had, or a connection not taken.
pub async fn answer_all(port: u16) -> io::Result<Vec<Report>> {
    let mut told_to_end = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
    let (end, is_over) = watch::channel(false);
    let mut flows = JoinSet::new();
    loop {
        select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                flows.spawn(report(stream, is_over.clone()));
            }
            _ = told_to_end.recv() => break,
        }
    }
    end.send_replace(true);
    flows.join_all().await.into_iter().collect()
}

async fn report(stream: TcpStream, mut is_over: watch::Receiver<bool>) -> io::Result<Report> {
    let mut end = End::new(stream)?;
    let ended = select! {
        ended = answer_flow(&mut end) => ended,
        _ = is_over.wait_for(|is_over| *is_over) => Err(io::ErrorKind::TimedOut.into()),
    };
    Ok(end.report.ended(ended))
}

/// Answers questions that come in order until the other end closes.
async fn answer_flow(end: &mut End) -> io::Result<()> {
    for number in 0.. {
        let Some(message) = end.receive().await? else { break };
        if number == 0 {
            end.report.flow = flow_of(message);
        }
        let flow = end.report.flow;
        if message != question(flow, number) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        end.send(&answer(flow, number)).await?;
    }
    end.close().await
}
