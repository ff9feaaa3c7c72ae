//! Runs the Memcached operator.

mod controller;
mod memcached;
mod probes;

use std::error::Error;

use kube::Client;
use tokio::net::TcpListener;

const USAGE: &str = "\
usage: manager [--health-probe-bind-address=ADDRESS] [--namespaced]
  --health-probe-bind-address=ADDRESS
        where /healthz and /readyz are served; 0 for nowhere (default 0.0.0.0:8081)
  --namespaced
        watch the namespace that is in the environment as NAMESPACE; else all of them";

struct Flags {
    probes: Option<String>,
    namespaced: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = match flags(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            std::process::exit(2);
        }
    };
    tracing_subscriber::fmt().with_ansi(false).init();
    let namespace = if flags.namespaced {
        let name = std::env::var("NAMESPACE");
        Some(name.map_err(|e| format!("--namespaced: NAMESPACE: {e}"))?)
    } else {
        None
    };
    let client = Client::try_default().await?;
    let controller = controller::new(&client, namespace.as_deref());
    if let Some(address) = flags.probes {
        let listener = TcpListener::bind(&address)
            .await
            .map_err(|e| format!("{address}: {e}"))?;
        tokio::spawn(probes::serve(listener, controller.store()));
    }
    controller::run(controller, client).await;
    Ok(())
}

fn flags(arguments: impl Iterator<Item = String>) -> Result<Flags, String> {
    let mut flags = Flags {
        probes: Some("0.0.0.0:8081".into()),
        namespaced: false,
    };
    for argument in arguments {
        match argument.split_once('=').unwrap_or((&argument, "true")) {
            ("--health-probe-bind-address", "0") => flags.probes = None,
            ("--health-probe-bind-address", address) => flags.probes = Some(address.into()),
            ("--namespaced", "true") => flags.namespaced = true,
            ("--namespaced", "false") => flags.namespaced = false,
            _ => return Err(format!("unknown argument: {argument}")),
        }
    }
    Ok(flags)
}
