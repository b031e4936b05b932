//! A server that takes no more connections, for a moment: one that has just been closed may still be ending.

use std::time::Duration;

/// How long to wait before a server that was full is asked again: at first, and at last.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(640);

/// Tries to connect until the server is not full, for about a second; returns what came of it last. The caller sets a
/// deadline.
pub async fn while_full<T, E, F: Future<Output = Result<T, E>>>(
    connect: impl Fn() -> F,
    is_full: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut pause = PAUSE;
    loop {
        match connect().await {
            Err(error) if is_full(&error) && pause <= PAUSE_MAX => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
}
