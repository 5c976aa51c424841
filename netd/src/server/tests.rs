use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::sync::mpsc;

use super::{BindError, Command, bind, serve};
use crate::{
    api::{Item, Request},
    client::{Client, ClientError},
};

/// A socket's path that goes with the test, in a directory that does not exist yet.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("netd-socket-{}-{number}/run/netd.sock", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = self.0.ancestors().nth(2).map(fs::remove_dir_all);
    }
}

/// Runs a client against a daemon that answers with `controller`.
async fn converse<T: Send + 'static>(
    controller: impl Fn(Command) + Send + 'static,
    client: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> T {
    let path = SocketPath::new();
    let listener = bind(&path.0).unwrap();
    let (commands, mut received) = mpsc::channel(1);
    let socket = path.0.clone();
    let client = tokio::task::spawn_blocking(move || client(socket));
    tokio::select! {
        () = serve(listener, commands) => unreachable!("the receiver lives on"),
        () = async { while let Some(command) = received.recv().await { controller(command) } } => {
            unreachable!("the server holds the sender")
        }
        result = client => result.unwrap(),
    }
}

fn counts(client: &mut Client, request: Request) -> Result<Vec<Item>, ClientError> {
    client.request(request)?.collect()
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let controller = |Command { request, reply }: Command| {
        if request == Request::NetworkList {
            reply.finish([]);
        } else if request == Request::ConntrackCount {
            reply.finish([Item::Count(7)]);
        } else if request == Request::Stats {
            reply.refuse(&"no statistics");
        }
    };
    converse(controller, |path| {
        let mut client = Client::connect(&path).unwrap();
        assert_eq!(counts(&mut client, Request::NetworkList).unwrap(), []);
        assert_eq!(counts(&mut client, Request::ConntrackCount).unwrap(), [Item::Count(7)]);
        let refused = counts(&mut client, Request::Stats).unwrap_err();
        assert_eq!(refused.to_string(), "no statistics");
        assert!(!refused.is_not_reachable());
        let dropped = counts(&mut client, Request::EndpointList).unwrap_err();
        assert_eq!(dropped.to_string(), "the daemon gave no answer: see its log");
    })
    .await;
}

#[tokio::test]
async fn a_long_answer_is_streamed() {
    const BATCHES: u64 = 1_000;
    let controller = |Command { reply, .. }: Command| {
        std::thread::spawn(move || {
            for batch in 0..BATCHES {
                let items = (0..100).map(|n| Item::Count(batch * 100 + n)).collect();
                reply.blocking_stream(items).unwrap();
            }
            reply.blocking_end_stream().unwrap();
        });
    };
    converse(controller, |path| {
        let mut client = Client::connect(&path).unwrap();
        let mut expected = 0;
        for item in client.request(Request::ConntrackList { filter: Default::default() }).unwrap() {
            assert_eq!(item.unwrap(), Item::Count(expected));
            expected += 1;
        }
        assert_eq!(expected, BATCHES * 100);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_stream() {
    let (gone, mut heard) = mpsc::unbounded_channel();
    let controller = move |Command { reply, .. }: Command| {
        let gone = gone.clone();
        std::thread::spawn(move || {
            while reply.blocking_stream(vec![Item::Count(0); 100]).is_ok() {}
            gone.send(()).unwrap();
        });
    };
    converse(controller, move |path| {
        let mut client = Client::connect(&path).unwrap();
        assert!(client.request(Request::Stats).unwrap().next().unwrap().is_ok());
        drop(client);
        heard.blocking_recv().unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_answer_given_while_the_daemon_ends_arrives() {
    let path = SocketPath::new();
    let listener = bind(&path.0).unwrap();
    let (commands, mut received) = mpsc::channel(1);
    let socket = path.0.clone();
    let client = tokio::task::spawn_blocking(move || {
        let idle = Client::connect(&socket).unwrap();
        let mut client = Client::connect(&socket).unwrap();
        let counts = counts(&mut client, Request::ConntrackCount).unwrap();
        idle.wait_until_closed().unwrap();
        client.wait_until_closed().unwrap();
        counts
    });
    let controller = async move {
        let command: Command = received.recv().await.unwrap();
        drop(received);
        command.reply.finish([Item::Count(7)]);
    };
    tokio::join!(serve(listener, commands), controller);
    assert_eq!(client.await.unwrap(), [Item::Count(7)]);
}

#[tokio::test]
async fn what_cannot_be_understood_is_answered_with_an_error() {
    let controller = |Command { reply, .. }: Command| reply.finish([]);
    converse(controller, |path| {
        let check = |line: &str, expected: &str| {
            let mut stream = UnixStream::connect(&path).unwrap();
            writeln!(stream, "{line}").unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).unwrap();
            assert!(answer.contains(expected), "{line}: {answer}");
        };
        check("hello", "the request is malformed");
        check("{}", "missing field `protocol`");
        check(r#"{"protocol":99,"request":7}"#, "the daemon speaks protocol 1, this client 99");
        check(r#"{"protocol":1,"request":{"command":"fly"}}"#, "unknown variant `fly`");
        check(r#"{"protocol":1,"request":{"command":"network_list"}}"#, "end");
    })
    .await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let path = SocketPath::new();
    drop(bind(&path.0).unwrap());
    let listener = bind(&path.0).unwrap();
    assert_eq!(fs::metadata(&path.0).unwrap().permissions().mode() & 0o777, 0o660);
    let error = bind(&path.0).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().starts_with("another netd answers at"));
    drop(listener);

    fs::remove_file(&path.0).unwrap();
    fs::write(&path.0, "precious").unwrap();
    assert!(matches!(bind(&path.0), Err(BindError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&path.0).unwrap(), "precious");
}

#[tokio::test]
async fn no_daemon_means_not_reachable() {
    let path = SocketPath::new();
    assert!(Client::connect(&path.0).unwrap_err().is_not_reachable());
    drop(bind(&path.0).unwrap());
    assert!(Client::connect(&path.0).unwrap_err().is_not_reachable());
}
