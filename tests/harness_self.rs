//! The harness tested without the library: its parser on the documented text, and its comparison on two oracles.
//! If gdb and eu-stack did not agree through it, it could not judge a third.

mod harness;

use harness::compare::{agree, compare};
use harness::dump::Dump;
use harness::fixtures::{Compiler, build};
use harness::host::Launch;
use harness::{eu_stack, gdb};

const TEXT: &str = "\
libmanhole in redis-server
######### ProcessID=71, ThreadID=72, name=\"redis, \\\"server\", state=S (sleeping), syscall=epoll_wait(5, 0x7f12, 10128, 100), capture=proc #########
#0  0x00007f52f4a3ed56 in epoll_wait+0x56 at ../sysdeps/unix/sysv/linux/epoll_wait.c:30 (libc.so.6)
#1  0x000055d3c2a0e1b2 in aeApiPoll (inlined) at ae_epoll.c:113 (redis-server)
#2  0x000055d3c2a0e1b2 in ns::f(int, char const*) const+0x1a2 (redis-server)
#3  0x00007f52f4900000 in ?? (no module) [frame pointer]
truncated: no unwind information for 0x7f52f4900000, and no frame pointer chain

######### ProcessID=71, ThreadID=73, name=\"busy\", state=R (running), syscall=none, capture=ptrace #########
#0  0x000055d3c2a0e1b2 in spin+0x2 (redis-server)

######### ProcessID=71, ThreadID=74, has exited #########
";

#[test]
fn the_text_form_is_parsed() {
    let dump = Dump::parse(TEXT);
    assert_eq!(dump.banner, "libmanhole in redis-server\n");
    assert_eq!(dump.threads.len(), 2);
    let first = dump.thread(72);
    assert_eq!(first.state, "S (sleeping)");
    assert_eq!(first.syscall.as_deref(), Some("epoll_wait(5, 0x7f12, 10128, 100)"));
    assert_eq!(first.capture, "proc");
    assert_eq!(first.frames[0].offset, Some(0x56));
    assert_eq!(first.frames[0].source.as_deref(), Some("../sysdeps/unix/sysv/linux/epoll_wait.c:30"));
    assert!(first.frames[1].inlined);
    assert_eq!(first.frames[2].function, "ns::f(int, char const*) const");
    assert_eq!(first.frames[2].module, "redis-server");
    assert!(first.frames[3].by_frame_pointer);
    assert!(first.truncated.as_deref().is_some_and(|reason| reason.starts_with("no unwind information")));
    assert_eq!(dump.named("busy").syscall, None);
    assert_eq!(dump.exited, [74]);
}

#[test]
fn gdb_and_eu_stack_agree_on_the_c_matrix() {
    let program = build("unwind_matrix", Compiler::Gnu, &["-O2", "-g", "-pthread"]);
    let host = Launch::new(program).bare().when_it_says("ready").start();
    let pid = host.pid();
    let report =
        agree("eu-stack and gdb", pid, || eu_stack::stacks(pid).expect("eu-stack"), || gdb::stacks(pid)).unwrap();
    assert_eq!(report.agreed.len(), 18);
    assert!(report.frames > 100);
}

#[test]
fn a_wrong_frame_is_seen() {
    let program = build("unwind_matrix", Compiler::Gnu, &["-O2", "-g", "-pthread"]);
    let host = Launch::new(program).bare().when_it_says("ready").start();
    let mut truth = gdb::stacks(host.pid());
    for stack in &mut truth {
        stack.frames.retain(|frame| !frame.synthetic);
    }
    let thread = truth.iter().position(|stack| stack.name == "recursion").expect("the thread called recursion");

    let mut wrong_name = truth.clone();
    wrong_name[thread].frames[5].function = "another".into();
    let mut wrong_pc = truth.clone();
    wrong_pc[thread].frames[5].address = Some(0x1234);
    let mut missing_frame = truth.clone();
    missing_frame[thread].frames.remove(5);
    let mut ends_silently = truth.clone();
    ends_silently[thread].frames.truncate(5);
    let mut missing_thread = truth.clone();
    missing_thread.remove(thread);
    for wrong in [wrong_name, wrong_pc, missing_frame, ends_silently, missing_thread] {
        assert_eq!(compare(host.pid(), &wrong, &truth).mismatches.len(), 1);
    }

    let mut truncated = truth.clone();
    truncated[thread].frames.truncate(5);
    truncated[thread].ended_early = Some("says so".into());
    let report = compare(host.pid(), &truncated, &truth);
    assert!(report.mismatches.is_empty());
    assert_eq!(report.truncated.len(), 1);
    assert!(compare(host.pid(), &truth, &truth).mismatches.is_empty());
}
