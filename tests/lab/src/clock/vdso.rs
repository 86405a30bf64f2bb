//! The code of the vDSO that tells the time, and what tells a wrong one in its place. x86-64; the time namespaces of the kernel
//! (time_namespaces(7)) have no wall clock.

use anyhow::{Context as _, Result, ensure};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSymbol as _};
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Where each function begins in the vDSO, which is the same in all processes of the machine but for its address.
pub struct Vdso {
    functions: Vec<(u64, Code)>,
}

impl Vdso {
    /// From this process's own.
    pub fn read() -> Result<Self> {
        let own = std::process::id();
        let place = place(own).context("this process has no vDSO")?;
        let mut image = vec![0; usize::try_from(place.end - place.start)?];
        File::open("/proc/self/mem")?.read_exact_at(&mut image, place.start).context("cannot read the own vDSO")?;
        let elf = ElfFile64::<Endianness>::parse(&*image).context("the vDSO is no ELF image")?;
        let mut functions = Vec::new();
        for (name, code) in CODE {
            let symbol = elf
                .dynamic_symbols()
                .find(|symbol| symbol.name() == Ok(name))
                .with_context(|| format!("the vDSO has no {name}"))?;
            ensure!(code(0).len() as u64 <= symbol.size(), "{name} has no room for other code");
            functions.push((symbol.address(), code));
        }
        Ok(Self { functions })
    }

    /// In process `pid`, where it is not so already. No thread may be within the old code. Fine where the process has ended.
    pub fn write(&self, pid: u32, seconds: i32) -> Result<()> {
        let Some((memory, place)) = open(pid) else { return Ok(()) };
        for (offset, code) in &self.functions {
            let wrote = memory.write_all_at(&code(seconds), place.start + offset);
            if wrote.is_err() && self::place(pid).is_some() {
                wrote.with_context(|| format!("cannot write into process {pid}"))?;
            }
        }
        Ok(())
    }

    /// Whether the process has code from here that adds just this.
    pub fn has(&self, pid: u32, seconds: i32) -> bool {
        let Some((memory, place)) = open(pid) else { return false };
        self.functions.iter().all(|(offset, code)| {
            let wanted = code(seconds);
            let mut found = vec![0; wanted.len()];
            memory.read_exact_at(&mut found, place.start + offset).is_ok() && found == wanted
        })
    }
}

fn open(pid: u32) -> Option<(File, Range<u64>)> {
    let place = place(pid)?;
    Some((OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?, place))
}

/// The addresses of a process's vDSO; none where it has ended.
pub fn place(pid: u32) -> Option<Range<u64>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

type Code = fn(i32) -> Vec<u8>;
const CODE: [(&str, Code); 3] =
    [("__vdso_clock_gettime", clock_gettime), ("__vdso_gettimeofday", gettimeofday), ("__vdso_time", time)];

const RET: u8 = 0xc3;

/// `mov eax, NUMBER; syscall`: arguments stay where the caller has put them.
fn system_call(number: i64) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend((number as u32).to_le_bytes());
    code.extend([0x0f, 0x05]);
    code
}

fn clock_gettime(seconds: i32) -> Vec<u8> {
    let mut code = system_call(libc::SYS_clock_gettime);
    code.extend([0x85, 0xc0, 0x75, 16]); // test eax, eax; jnz ret
    code.extend([0x85, 0xff, 0x74, 5]); // test edi, edi; jz add: CLOCK_REALTIME
    code.extend([0x83, 0xff, libc::CLOCK_REALTIME_COARSE as u8, 0x75, 7]); // cmp edi, …; jne ret
    code.extend([0x48, 0x81, 0x06]); // add qword [rsi], …
    code.extend(seconds.to_le_bytes());
    code.push(RET);
    code
}

fn gettimeofday(seconds: i32) -> Vec<u8> {
    let mut code = system_call(libc::SYS_gettimeofday);
    code.extend([0x85, 0xc0, 0x75, 12]); // test eax, eax; jnz ret
    code.extend([0x48, 0x85, 0xff, 0x74, 7]); // test rdi, rdi; jz ret
    code.extend([0x48, 0x81, 0x07]); // add qword [rdi], …
    code.extend(seconds.to_le_bytes());
    code.push(RET);
    code
}

fn time(seconds: i32) -> Vec<u8> {
    let mut code = system_call(libc::SYS_time);
    code.extend([0x48, 0x05]); // add rax, …
    code.extend(seconds.to_le_bytes());
    code.extend([0x48, 0x85, 0xff, 0x74, 3]); // test rdi, rdi; jz ret
    code.extend([0x48, 0x89, 0x07]); // mov [rdi], rax
    code.push(RET);
    code
}
