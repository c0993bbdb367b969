//! What the server does in one step. All keys of a namespace are used together, so they belong on one server.
//!
//! Besides values there are two kinds of keys. The *epoch* is a number drawn at random: values and tickets of another
//! epoch are void. It changes when the tier is cleared and when the server has lost its memory. The *marker* of a key
//! says which was the last change of it, for [`LEASE`]; a ticket holds the marker of its miss, and the time of it by the
//! server's clock. So a fill is refused if its key was changed since its miss, or if that is too long ago to know.
//!
//! Markers are numbered by the node that makes the change, so that a command which was held up on a connection that was
//! given up does not undo a later one of the same node.

use std::{sync::LazyLock, time::Duration};

use ::redis::Script;

/// How long the server remembers that a key was changed, and so how long after its miss a fill may come.
pub(super) const LEASE: Duration = Duration::from_secs(120);

/// Keys: value, marker, epoch. Arguments: epoch, marker and time of the ticket, lease, time to live, bytes.
pub(super) static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local age = now - ARGV[3]
if redis.call('GET', KEYS[3]) ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '') ~= ARGV[2]
    or age < 0 or age >= tonumber(ARGV[4]) then
    return 0
end
local head = ARGV[1] .. ':' .. string.format('%.0f', now + ARGV[5]) .. ':'
redis.call('SET', KEYS[1], head .. ARGV[6], 'PX', ARGV[5])
return 1
",
    )
});

/// Keys: value, marker, epoch. Arguments: origin, number, lease, channel, message, epoch if there is none, then, for a new
/// value, time to live and bytes.
///
/// A server that is out of memory refuses a script's first write if it takes memory, and none after that: so a removal
/// begins with `DEL`, and is always made. A marker or epoch that somebody has put another type in place of is replaced.
pub(super) static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local marker = redis.pcall('GET', KEYS[2])
if type(marker) == 'string' and string.sub(marker, 1, 17) == ARGV[1] .. '.'
    and (tonumber(string.sub(marker, 18)) or 0) > tonumber(ARGV[2]) then
    return 0
end
if not ARGV[7] then
    redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[2], ARGV[1] .. '.' .. ARGV[2], 'PX', ARGV[3])
if ARGV[7] then
    local epoch = redis.pcall('GET', KEYS[3])
    if type(epoch) ~= 'string' then
        epoch = ARGV[6]
        redis.call('SET', KEYS[3], epoch)
    end
    local time = redis.call('TIME')
    local expires = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[7]
    local head = epoch .. ':' .. string.format('%.0f', expires) .. ':'
    redis.call('SET', KEYS[1], head .. ARGV[8], 'PX', ARGV[7])
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
",
    )
});

/// Key: epoch. Arguments: the new one, channel, message.
pub(super) static CLEAR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
",
    )
});
