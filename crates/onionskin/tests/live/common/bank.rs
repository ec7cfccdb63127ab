//! The audit of an image of `bank`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pages::{Pages, word};
use super::target::number;

/// One account, as the image shows it.
#[derive(Clone, Copy)]
struct Account {
    balance: i64,
    moves: u64,
}

/// What a thread had written down of the transfer it was in.
struct Log {
    active: bool,
    from: (u64, Account),
    to: (u64, Account),
    count: u64,
}

/// Checks that the sums of an image are right, taking back the transfers it caught half done;
/// returns the number of transfers done until then.
pub(crate) fn audit_bank(ready: &Value, pages: &Pages<'_>) -> Result<u64, String> {
    let per_region = number(ready, "per_region");
    let stride = number(ready, "stride");
    let mut accounts = Vec::new();
    for region in ready["regions"].as_array().expect("regions are listed") {
        let bytes = pages.read(number(region, "start"), number(region, "len"))?;
        accounts.extend((0..per_region).map(|i| Account {
            balance: word(&bytes, i * stride).cast_signed(),
            moves: word(&bytes, i * stride + 8),
        }));
    }
    let mut undone = BTreeMap::new();
    let mut count = 0;
    for thread in 0..number(ready, "threads") {
        let log = read_log(ready, thread, pages)?;
        count += log.count;
        for (index, account) in [log.from, log.to].into_iter().filter(|_| log.active) {
            if undone.insert(index, account).is_some() {
                return Err(format!("two threads hold account {index}"));
            }
        }
    }
    for (index, account) in undone {
        let index = usize::try_from(index).expect("an index");
        *accounts.get_mut(index).ok_or("a log names no account")? = account;
    }
    let balance: i64 = accounts.iter().map(|account| account.balance).sum();
    let moves: u64 = accounts.iter().map(|account| account.moves).sum();
    let total = ready["total"].as_i64().expect("the total is told");
    if balance != total {
        return Err(format!("the balance is {balance} and not {total}"));
    }
    if moves != 2 * count {
        return Err(format!(
            "{moves} accounts were changed by {count} transfers"
        ));
    }
    Ok(count)
}

fn read_log(ready: &Value, thread: u64, pages: &Pages<'_>) -> Result<Log, String> {
    let start = number(ready, "logs") + thread * number(ready, "log_stride");
    let page = pages.read(start, number(ready, "log_stride"))?;
    let field = |index: u64| word(&page, index * 8);
    let old = |balance: u64, moves: u64| Account {
        balance: field(balance).cast_signed(),
        moves: field(moves),
    };
    let active = field(0) != 0;
    Ok(Log {
        active,
        from: (field(1), old(3, 5)),
        to: (field(2), old(4, 6)),
        count: if active { field(8) } else { field(7) },
    })
}
