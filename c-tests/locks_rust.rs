// flags: -O
//! A mutex of Rust's standard library: `keeper` keeps its guard and sleeps, `wanting` waits for it.

use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread::Builder;

static LOCK: Mutex<u32> = Mutex::new(0);

fn main() {
    let (sender, held) = channel();
    let keeper = Builder::new().name("keeper".into()).spawn(move || {
        let guard = LOCK.lock().unwrap();
        sender.send(()).unwrap();
        loop {
            std::thread::park();
            std::hint::black_box(&*guard);
        }
    });
    keeper.unwrap();
    held.recv().unwrap();
    let wanting = Builder::new().name("wanting".into()).spawn(|| *LOCK.lock().unwrap() += 1);
    wanting.unwrap();
    let waits = || {
        std::fs::read_dir("/proc/self/task").unwrap().flatten().any(|task| {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            read("comm") == "wanting\n" && read("stat").contains(") S ")
        })
    };
    while !waits() {
        std::thread::yield_now();
    }
    println!("LOCK {:#x}\nready", &raw const LOCK as usize);
    let _ = std::io::stdin().read(&mut [0]);
    println!("PASS");
}
