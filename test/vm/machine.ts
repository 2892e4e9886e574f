// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { renderCpio } from "./cpio.ts";
import { type GuestKernel, modulesInOrder } from "./kernel.ts";
import { NotRunError } from "./not-run.ts";

const QEMU = "qemu-system-x86_64";
/** /dev/kvm is seldom there where tests run, and not always fit for use: the processor is emulated. */
const HARDWARE = ["-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072"];
/** To see this machine's files, and to lay what is written over them. */
const BOOT_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
const UP = "gingham-vm: up";
const EXIT_LINE = /gingham-vm: exit (\d+)$/;

export interface MachineOptions {
  readonly kernel: GuestKernel;
  /** Loaded before the script runs. */
  readonly modules: readonly string[];
  /** Run by root's shell, with the files of this machine; what it writes is gone with the machine. */
  readonly script: string;
  readonly timeoutMs: number;
  /** Hears each line that the script prints. */
  readonly onLine: (line: string) => void;
}

/** Boots a machine, runs the script in it, and resolves to its exit status. @throws NotRunError; Error when it did not end */
export async function runInMachine(options: MachineOptions): Promise<number> {
  const { kernel, onLine, timeoutMs } = options;
  const folder = mkdtempSync(join(tmpdir(), "gingham-vm-"));
  try {
    const initrd = join(folder, "initrd");
    writeFileSync(initrd, renderInitrd(options));
    const disk = ["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"];
    const args = [
      ...HARDWARE,
      ...["-nographic", "-no-reboot", "-nic", "none", "-kernel", kernel.image, "-initrd", initrd],
      ...["-append", "console=ttyS0 quiet panic=-1"],
      ...[...disk, "-device", "virtio-9p-pci,fsdev=root,mount_tag=root"],
    ];
    const machine = spawn(QEMU, args, {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    process.once("exit", () => machine.kill("SIGKILL"));
    const failed = once(machine, "error").then(([error]) => {
      throw new NotRunError(`cannot start ${QEMU}: ${String(error)}; it is in Debian's package qemu-system-x86`);
    });
    let isUp = false;
    let exitCode: number | undefined;
    const lines = createInterface({ input: machine.stdout }).on("line", (line) => {
      const text = line.trimEnd();
      const exit = EXIT_LINE.exec(text)?.[1];
      if (exit !== undefined) exitCode = Number(exit);
      // Before and after, firmware and kernel speak.
      else if (isUp && exitCode === undefined) onLine(text);
      isUp ||= text.endsWith(UP);
    });
    await Promise.race([once(lines, "close"), failed]);
    if (exitCode === undefined)
      throw new Error(`The machine ended, or ${timeoutMs} ms were over, before the script had`);
    return exitCode;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function renderInitrd({ kernel, modules, script }: MachineOptions): Uint8Array {
  const boot = modulesInOrder(kernel, BOOT_MODULES);
  const first = boot.map((path, i) => ({ path: `modules/${i}.ko`, content: readFileSync(path) }));
  const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /lower /rw /root
mount -t proc proc /proc
mount -t devtmpfs dev /dev
${first.map(({ path }) => `insmod /${path}`).join("\n")}
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose root /lower
mount -t tmpfs tmpfs /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /root
cd /root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm lib/modules
mount -t devpts devpts dev/pts
for dir in dev/shm tmp run; do mount -t tmpfs tmpfs $dir; done
cp /main.sh /root/run/main.sh
# Not chroot, in which the kernel allows no user namespaces.
exec switch_root /root /bin/sh /run/main.sh
`;
  const main = `
export PATH=${process.env["PATH"] ?? ""}:/usr/sbin:/usr/bin HOME=/root CI=1
mount --bind ${kernel.modulesDir} /lib/modules
ln -sf ${findProgram("busybox")} /sbin/modprobe
ip link set lo up
for module in ${modules.join(" ")}; do modprobe $module || echo "no module $module"; done
echo "${UP}"
sh -euc ${quote(script)}
echo "gingham-vm: exit $?"
echo o > /proc/sysrq-trigger
# On its way down it loses its files, so that no program can be run any more.
while :; do :; done
`;
  return renderCpio([
    { path: "init", content: Buffer.from(init) },
    { path: "main.sh", content: Buffer.from(main) },
    { path: "bin/busybox", content: readFileSync(findProgram("busybox")) },
    ...first,
  ]);
}

/** @throws NotRunError */
export function findProgram(name: string): string {
  const found = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(existsSync);
  if (found === undefined) throw new NotRunError(`no ${name} on PATH`);
  return found;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
