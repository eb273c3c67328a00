//! The little of HTTP/1.1 that asking one page needs, of a server's admin address.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Address;

/// The longest answer that is read, in bytes: a status has about 400.
const ANSWER_MAX: u64 = 64 << 10;

/// The body of a page. The caller bounds the time.
pub(super) async fn get(address: &Address, path: &str) -> io::Result<Vec<u8>> {
    body(&ask("GET", address, path).await?)
}

/// The body of the answer to an order; `None` when it is taken and not done yet (202).
pub(crate) async fn post(address: &Address, path: &str) -> io::Result<Option<Vec<u8>>> {
    let answer = ask("POST", address, path).await?;
    if answer.starts_with(b"HTTP/1.1 202 ") { Ok(None) } else { body(&answer).map(Some) }
}

async fn ask(method: &str, address: &Address, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// What follows the headers of a successful answer.
fn body(answer: &[u8]) -> io::Result<Vec<u8>> {
    let invalid = |problem: String| io::Error::new(ErrorKind::InvalidData, problem);
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end else { return Err(invalid("the answer is no HTTP".to_string())) };
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.lines().next().unwrap_or_default();
    match status.split_whitespace().nth(1) {
        Some("200") if status.starts_with("HTTP/1.") => Ok(answer[end + 4..].to_vec()),
        _ => {
            let why = String::from_utf8_lossy(&answer[end + 4..]);
            Err(invalid(format!("the answer is {status:?}: {}", why.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_has_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}").unwrap(), b"{}");
        for bad in ["", "hello", "HTTP/1.1 404 Not Found\r\n\r\nx", "SSH-2.0 200\r\n\r\n", "HTTP/1.1\r\n\r\n"]
        {
            assert!(body(bad.as_bytes()).is_err(), "{bad:?} was taken for an answer");
        }
    }
}
