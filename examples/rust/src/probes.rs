//! What the kubelet asks: /healthz always succeeds, /readyz once the objects are known.

use futures::FutureExt;
use kube::runtime::reflector::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::memcached::Memcached;

/// Answer probes for ever.
pub async fn serve(listener: TcpListener, store: Store<Memcached>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                tokio::spawn(answer(connection, store.clone()));
            }
            Err(e) => tracing::warn!("probe: {e}"),
        }
    }
}

async fn answer(mut connection: TcpStream, store: Store<Memcached>) {
    let mut request = [0; 1024];
    let length = connection.read(&mut request).await.unwrap_or_default();
    let known = store.wait_until_ready().now_or_never().is_some();
    let status = if known || !request[..length].starts_with(b"GET /readyz") {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    if let Err(e) = connection.write_all(answer.as_bytes()).await {
        tracing::warn!("probe: {e}");
    }
}
