//! The options: one table, from which the parser, the `options` command and the README's table come.
//!
//! Context: the constructor, the C API and, for reading, every thread of ours. The spelling is
//! python-manhole's: `MANHOLE='key=value,…'` with Python literals. [`literal`] turns text into
//! values, this file gives values their meaning.

#![forbid(unsafe_code)]

pub mod glob;
pub mod level;
pub mod literal;
pub mod locals;
pub mod nearest;
pub mod signals;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::protocol::abstract_name;
use crate::stack::Limits;
use crate::stack::capture::Methods;
use level::Level;
use literal::Value;
use locals::Local;

/// The environment variable that carries the options.
pub const VARIABLE: &str = "MANHOLE";

/// What the value of [`VARIABLE`] means.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("unset, or MANHOLE=", "A manhole with the defaults."),
    (
        "MANHOLE='key=value, …'",
        "A manhole with these options. A mistake costs one log line and the manhole, never the program.",
    ),
    ("MANHOLE=off", "No manhole."),
];

/// The value of [`VARIABLE`] that keeps us out.
pub const OFF: &str = "off";

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A descriptor of the application, looked up at each line.
    Descriptor(i32),
    /// A file, opened at each line and appended to.
    Path(String),
}

/// What a client that is a person meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Banner, stacks, prompt.
    Repl,
    /// Nothing but the answers: a command a line.
    Exec,
}

/// All options, with their meaning resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// See [`OPTIONS`] for each.
    pub verbose: bool,
    /// See [`OPTIONS`].
    pub verbose_destination: Destination,
    /// See [`OPTIONS`].
    pub patch_fork: bool,
    /// The signal that opens the socket.
    pub activate_on: Option<i32>,
    /// See [`OPTIONS`].
    pub thread: bool,
    /// The signal that serves one client in its handler.
    pub oneshot_on: Option<i32>,
    /// Signals that our threads block, as a bit mask (bit n - 1 for signal n).
    pub sigmask: u64,
    /// The template of the socket's path, `None` for `/tmp/manhole-{pid}`.
    pub socket_path: Option<String>,
    /// See [`OPTIONS`].
    pub reinstall_delay: Duration,
    /// See [`OPTIONS`].
    pub daemon_connection: bool,
    /// See [`OPTIONS`].
    pub redirect_stderr: bool,
    /// See [`OPTIONS`].
    pub connection_handler: Handler,
    /// See [`OPTIONS`].
    pub strict: bool,
    /// See [`OPTIONS`].
    pub start_timeout: Duration,
    /// Globs on the program's name; empty for every program.
    pub only: Vec<String>,
    /// The ways of capturing that a dump may use.
    pub capture: Methods,
    /// Bounds of one dump, from `max_frames`, `stack_bytes` and `dump_bytes`.
    pub limits: Limits,
    /// See [`OPTIONS`].
    pub max_threads: usize,
    /// See [`OPTIONS`].
    pub client_timeout: Duration,
    /// What a session may do at most.
    pub level: Level,
    /// Names for the operator.
    pub locals: Vec<Local>,
    /// The options that were given, as `(name, spelling)`.
    given: Vec<(&'static str, String)>,
}

/// One row of the table.
pub struct OptionSpec {
    /// The key.
    pub name: &'static str,
    /// What values it takes, in words.
    pub expects: &'static str,
    /// The default, as one would write it.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Applies a value; `None` when it is not one of what the option expects.
    apply: fn(&mut Config, &Value) -> Option<()>,
}

/// The table of options.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "verbose",
        expects: "True or False",
        default: "True",
        help: "Log what the manhole does; False squelches it.",
        apply: |config, value| set(&mut config.verbose, value.as_bool()),
    },
    OptionSpec {
        name: "verbose_destination",
        expects: "a descriptor number or a path",
        default: "2",
        help: "Where log lines go: a descriptor of the application, or a file that is appended to.",
        apply: |config, value| {
            config.verbose_destination = match value {
                Value::Integer(number) => Destination::Descriptor(i32::try_from(*number).ok().filter(|n| *n >= 0)?),
                Value::Text(path) if !path.is_empty() => Destination::Path(path.clone()),
                _ => return None,
            };
            Some(())
        },
    },
    OptionSpec {
        name: "patch_fork",
        expects: "True or False",
        default: "True",
        help: "Give forked children a manhole of their own (through pthread_atfork).",
        apply: |config, value| set(&mut config.patch_fork, value.as_bool()),
    },
    OptionSpec {
        name: "activate_on",
        expects: "a signal that can be caught, or None",
        default: "None",
        help: "Open the socket only when this signal comes (USR1, SIGUSR1, 10, RTMIN+3). It disables patch_fork; children keep the signal.",
        apply: |config, value| set(&mut config.activate_on, signals::catchable(value)),
    },
    OptionSpec {
        name: "oneshot_on",
        expects: "a signal that can be caught, or None",
        default: "None",
        help: "No threads at all: the handler of this signal serves one client on the interrupted thread, which stands still meanwhile. It disables patch_fork; children keep the signal.",
        apply: |config, value| set(&mut config.oneshot_on, signals::catchable(value)),
    },
    OptionSpec {
        name: "thread",
        expects: "True or False",
        default: "True",
        help: "Start the always-on manhole thread at once; False waits for manhole_install() of the C API.",
        apply: |config, value| set(&mut config.thread, value.as_bool()),
    },
    OptionSpec {
        name: "sigmask",
        expects: "ALL_SIGNALS, None or a list of signals",
        default: "ALL_SIGNALS",
        help: "Signals that the manhole's threads block. Anything but all lets handlers of the application run on them.",
        apply: |config, value| set(&mut config.sigmask, signals::mask(value)),
    },
    OptionSpec {
        name: "socket_path",
        expects: "a path or @NAME (with {pid} and {name} if wanted) or None",
        default: "None",
        help: "The socket's path instead of /tmp/manhole-{pid}, or @NAME for an abstract address, which leaves no file behind. Without {pid} it disables patch_fork.",
        apply: |config, value| {
            config.socket_path = match value {
                Value::None => None,
                Value::Text(path) if !matches!(path.as_str(), "" | "@") => Some(path.clone()),
                _ => return None,
            };
            Some(())
        },
    },
    OptionSpec {
        name: "reinstall_delay",
        expects: "seconds",
        default: "0.5",
        help: "How long a forked child waits before it opens its socket: one that execs meanwhile never does.",
        apply: |config, value| set(&mut config.reinstall_delay, value.as_seconds()),
    },
    OptionSpec {
        name: "daemon_connection",
        expects: "True or False",
        default: "False",
        help: "Connections die when the process exits; False lets connected clients finish first.",
        apply: |config, value| set(&mut config.daemon_connection, value.as_bool()),
    },
    OptionSpec {
        name: "redirect_stderr",
        expects: "True or False",
        default: "True",
        help: "Show the operator also what the application writes on descriptor 2 during a session.",
        apply: |config, value| set(&mut config.redirect_stderr, value.as_bool()),
    },
    OptionSpec {
        name: "connection_handler",
        expects: "repl or exec",
        default: "repl",
        help: "What nc meets: repl is banner, stacks and prompt; exec only runs a command a line.",
        apply: |config, value| {
            config.connection_handler = match value.as_text()?.as_str() {
                "repl" => Handler::Repl,
                "exec" => Handler::Exec,
                _ => return None,
            };
            Some(())
        },
    },
    OptionSpec {
        name: "strict",
        expects: "True or False",
        default: "True",
        help: "A second install is an error (AlreadyInstalled); False replaces the first.",
        apply: |config, value| set(&mut config.strict, value.as_bool()),
    },
    OptionSpec {
        name: "start_timeout",
        expects: "seconds",
        default: "0",
        help: "How long the constructor waits at most for the socket to be open; 0 lets main() begin beside it (python-manhole: 0.5).",
        apply: |config, value| set(&mut config.start_timeout, value.as_seconds()),
    },
    OptionSpec {
        name: "only",
        expects: "a glob on the program's name, a list of them, or None",
        default: "None",
        help: "Open a manhole only in programs of this name, so that LD_PRELOAD can be exported to a whole shell script.",
        apply: |config, value| {
            config.only = match value {
                Value::None => Vec::new(),
                Value::Text(glob) => vec![glob.clone()],
                Value::List(globs) => globs.iter().map(|glob| glob.as_text()).collect::<Option<Vec<_>>>()?,
                _ => return None,
            };
            Some(())
        },
    },
    OptionSpec {
        name: "capture",
        expects: "auto, proc, ptrace or signal",
        default: "auto",
        help: "How stacks may be captured: auto takes the gentlest way that works, thread by thread.",
        apply: |config, value| {
            let only = Methods { proc: false, ptrace: false, signal: false };
            config.capture = match value.as_text()?.as_str() {
                "auto" => Methods::default(),
                "proc" => Methods { proc: true, ..only },
                "ptrace" => Methods { ptrace: true, ..only },
                "signal" => Methods { signal: true, ..only },
                _ => return None,
            };
            Some(())
        },
    },
    OptionSpec {
        name: "max_frames",
        expects: "a number from 1 to 1000000",
        default: "1024",
        help: "Frames shown of one thread; what is cut is said.",
        apply: |config, value| set(&mut config.limits.frames, value.as_size(1, 1_000_000).map(|number| number as u32)),
    },
    OptionSpec {
        name: "max_threads",
        expects: "a number from 1 to 4194304",
        default: "32768",
        help: "Threads captured in one dump; what is cut is said.",
        apply: |config, value| set(&mut config.max_threads, value.as_size(1, 1 << 22)),
    },
    OptionSpec {
        name: "stack_bytes",
        expects: "bytes from 4K to 64M",
        default: "256K",
        help: "How much of its stack is copied of a thread that had to be stopped.",
        apply: |config, value| set(&mut config.limits.stack_bytes, value.as_size(4 << 10, 64 << 20)),
    },
    OptionSpec {
        name: "dump_bytes",
        expects: "bytes from 64K to 4G",
        default: "48M",
        help: "Memory that the frames of one dump may take, all threads together.",
        apply: |config, value| {
            config.limits.total_frames = value.as_size(64 << 10, 4 << 30)? / size_of::<crate::stack::Frame>();
            Some(())
        },
    },
    OptionSpec {
        name: "client_timeout",
        expects: "seconds",
        default: "60",
        help: "A client that takes none of its output for so long is dropped.",
        apply: |config, value| set(&mut config.client_timeout, value.as_seconds()),
    },
    OptionSpec {
        name: "level",
        expects: "observe, operate or admin",
        default: "admin",
        help: "What a session may do: observe looks, operate also sends signals and runs the application's own commands, admin also changes memory and calls functions. A session can lower its own (drop).",
        apply: |config, value| set(&mut config.level, Level::parse(&value.as_text()?)),
    },
    OptionSpec {
        name: "locals",
        expects: "a dict of names to addresses, &symbols or strings, or None",
        default: "None",
        help: "Names for the operator, usable wherever a command takes an address: locals={\"cfg\": \"&global_config\", \"log\": 0x7f00}. Names are identifiers.",
        apply: |config, value| set(&mut config.locals, locals::parse(value)),
    },
];

/// Stores a value that was understood.
fn set<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
}

impl Default for Config {
    fn default() -> Self {
        Self {
            verbose: true,
            verbose_destination: Destination::Descriptor(2),
            patch_fork: true,
            activate_on: None,
            thread: true,
            oneshot_on: None,
            sigmask: u64::MAX,
            socket_path: None,
            reinstall_delay: Duration::from_millis(500),
            daemon_connection: false,
            redirect_stderr: true,
            connection_handler: Handler::Repl,
            strict: true,
            start_timeout: Duration::ZERO,
            only: Vec::new(),
            capture: Methods::default(),
            limits: Limits::default(),
            max_threads: 32768,
            client_timeout: Duration::from_secs(60),
            level: Level::Admin,
            locals: Vec::new(),
            given: Vec::new(),
        }
    }
}

/// What is wrong with an option string: one line that names the object and the way out.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// Reads an option string. Empty means the defaults.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for pair in literal::pairs(text).map_err(|error| ConfigError(error.to_string()))? {
            let Some(spec) = OPTIONS.iter().find(|spec| spec.name == pair.key) else {
                let known = nearest::nearest(&pair.key, OPTIONS.iter().map(|spec| spec.name));
                let hint = known.map_or(String::new(), |name| format!("; did you mean {name}?"));
                return Err(ConfigError(format!("unknown option {:?}{hint}", pair.key)));
            };
            if config.given.iter().any(|(name, _)| *name == spec.name) {
                return Err(ConfigError(format!("option {} is given twice", spec.name)));
            }
            (spec.apply)(&mut config, &pair.value).ok_or_else(|| {
                ConfigError(format!("option {} expects {}, not {}", spec.name, spec.expects, pair.spelling))
            })?;
            config.given.push((spec.name, pair.spelling));
        }
        if config.activate_on.is_some() && config.activate_on == config.oneshot_on {
            return Err(ConfigError(
                "ConfigurationConflict: activate_on and oneshot_on name the same signal; give each its own".to_owned(),
            ));
        }
        Ok(config)
    }

    /// Whether [`Self::anchor`] may change anything.
    pub fn has_relative_paths(&self) -> bool {
        let log = match &self.verbose_destination {
            Destination::Path(path) => Some(path),
            Destination::Descriptor(_) => None,
        };
        self.socket_path.iter().chain(log).any(|path| !path.starts_with('/'))
    }

    /// Makes relative paths absolute: the observer has a working folder of its own.
    pub fn anchor(&mut self, folder: &str) {
        let absolute = |path: &mut String| {
            if !path.starts_with('/') {
                *path = format!("{}/{path}", folder.trim_end_matches('/'));
            }
        };
        self.socket_path.as_mut().filter(|path| abstract_name(path).is_none()).map(absolute);
        if let Destination::Path(path) = &mut self.verbose_destination {
            absolute(path);
        }
    }

    /// The value of an option as it was spelt, if it was given.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, spelling)| spelling.as_str())
    }

    /// Whether forked children get a manhole of their own without being asked: a fixed path could not be
    /// shared, and where a signal opens the manhole, children keep the signal instead.
    pub fn follows_forks(&self) -> bool {
        self.patch_fork
            && !self.waits_for_signal()
            && self.socket_path.as_ref().is_none_or(|path| path.contains("{pid}"))
    }

    /// Whether a signal opens the manhole.
    pub fn waits_for_signal(&self) -> bool {
        self.activate_on.is_some() || self.oneshot_on.is_some()
    }

    /// Why forked children get none although `patch_fork` is on, in words.
    pub fn why_not_after_fork(&self) -> &'static str {
        match (self.activate_on, self.oneshot_on) {
            (Some(_), _) => "they keep the signal of activate_on",
            (_, Some(_)) => "they keep the signal of oneshot_on",
            _ => "socket_path holds no {pid}",
        }
    }

    /// Whether a manhole is wanted in a program that goes by any of `names`.
    pub fn wants(&self, names: &[Vec<u8>]) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|glob| names.iter().any(|name| glob::matches(glob.as_bytes(), name)))
    }
}
