import { execFile, spawn } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HOOK_SCRIPT } from '../../src/cli/agent/libvirt-hook.js'

/** As Debian's package makes it. */
const QEMU_USER = 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n'
const QEMU_GROUP = 'libvirt-qemu:x:64055:\n'

export interface Libvirtd extends AsyncDisposable {
  readonly folder: string
  readonly uri: string
  readonly swtpmDirectory: string
  /** Which agent the hook asks. Without one, the hook finds a socket that nobody listens on. */
  useAgent(socket: string): void
  /** Operations that the hook was called for, in order. */
  hooked(): readonly string[]
  /** Runs virsh. */
  virsh(...args: string[]): Promise<{ readonly exitCode: number; readonly text: string }>
}

/**
 * The real libvirtd, with configuration, state and sockets of its own: it runs in a mount name space where its fixed
 * directories are others, and in a process name space that ends with it. Its QEMU runs as a user of its own.
 */
export async function startLibvirtd(): Promise<Libvirtd> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-lv-'))
  chmodSync(folder, 0o755)
  for (const name of ['etc/hooks/qemu.d', 'run', 'lib', 'cache', 'log', 'swtpm-log', 'bin']) {
    mkdirSync(join(folder, name), { recursive: true })
  }
  for (const [name, line] of [
    ['passwd', QEMU_USER],
    ['group', QEMU_GROUP],
  ] as const) {
    copyFileSync(`/etc/${name}`, join(folder, name))
    if (!readFileSync(join(folder, name), 'utf8').includes('libvirt-qemu:')) {
      appendFileSync(join(folder, name), line)
    }
  }
  writeFileSync(
    join(folder, 'etc/qemu.conf'),
    'cgroup_controllers = []\nnamespaces = []\nstdio_handler = "file"\nsecurity_driver = "none"\n',
  )
  writeFileSync(
    join(folder, 'etc/libvirtd.conf'),
    `unix_sock_dir = "${folder}/run"\nauth_unix_rw = "none"\nlog_outputs = "3:file:${folder}/libvirtd.log"\n`,
  )
  const script = (name: string, content: string) => {
    writeFileSync(join(folder, name), content)
    chmodSync(join(folder, name), 0o755)
  }
  // of two hooks in a folder, the first is the one with the lesser name
  script('etc/hooks/qemu.d/0-log', `#!/bin/sh\necho "$1 $2 $3" >> ${folder}/hooked\n`)
  script('etc/hooks/qemu.d/sigillo', HOOK_SCRIPT)
  const useAgent = (socket: string) =>
    script(
      'bin/sigillo-agent',
      `#!/bin/sh\nexport SIGILLO_AGENT_SOCKET=${socket}\nexec ${process.execPath} ${resolve('dist/src/cli/agent-main.js')} "$@"\n`,
    )
  useAgent(join(folder, 'nobody.sock'))
  script('start', startScript(folder))
  const child = spawn(
    'unshare',
    ['--mount', '--pid', '--fork', '--kill-child=KILL', '--mount-proc', join(folder, 'start')],
    {
      stdio: 'ignore',
      env: { PATH: `${folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin`, LC_ALL: 'C', HOME: folder },
    },
  )
  const uri = `qemu+unix:///system?socket=${folder}/run/libvirt-sock`
  const virsh: Libvirtd['virsh'] = (...args) =>
    new Promise((done) => {
      execFile('virsh', ['--connect', uri, ...args], (error, stdout, stderr) => {
        const exitCode = error ? Number(error.code ?? 1) : 0
        done({ exitCode, text: `${stdout}${stderr}`.trim() })
      })
    })
  const endMs = Date.now() + 60_000
  while ((await virsh('list')).exitCode !== 0) {
    if (Date.now() > endMs || child.exitCode !== null) {
      const log = readFileSync(join(folder, 'libvirtd.log'), 'utf8')
      throw new Error(`libvirtd does not start: ${log.slice(-2000)}`)
    }
    await delay(100)
  }
  return {
    ...{ folder, uri, useAgent, virsh, swtpmDirectory: join(folder, 'lib/swtpm') },
    hooked: () => readFileSync(join(folder, 'hooked'), 'utf8').trim().split('\n'),
    async [Symbol.asyncDispose]() {
      const ended = new Promise((done) => child.once('exit', done))
      if (child.exitCode === null) {
        child.kill('SIGKILL')
        await ended
      }
      // an agent that was closed may still be writing why its VMs are locked
      await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
    },
  }
}

function startScript(folder: string): string {
  const bound = [
    ...['passwd /etc/passwd', 'group /etc/group', 'etc /etc/libvirt', 'lib /var/lib/libvirt'],
    ...['cache /var/cache/libvirt', 'log /var/log/libvirt', 'swtpm-log /var/log/swtpm'],
  ]
  return [
    '#!/bin/sh',
    'set -e',
    `cd ${folder}`,
    'mount --make-rprivate /',
    'mkdir -p /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /var/log/swtpm',
    'mount -t tmpfs tmpfs /run/libvirt',
    ...bound.map((pair) => `mount --bind ${folder}/${pair}`),
    // where KVM can be opened and does not work, libvirt looks at QEMU anew for every domain, half a minute each time
    'touch no-kvm; chmod 0 no-kvm',
    'if [ -e /dev/kvm ]; then mount --bind no-kvm /dev/kvm; fi',
    // the shell stays: as the first process of its name space it takes up orphans, which libvirtd would not
    `libvirtd --config /etc/libvirt/libvirtd.conf --pid-file ${folder}/libvirtd.pid`,
    '',
  ].join('\n')
}
