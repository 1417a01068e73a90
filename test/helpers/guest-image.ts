import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

/** What `scripts/setup` took out of packages of Debian: kernel, modules, busybox. */
const PARTS = '.guest'
/** In the order in which they depend on one another. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev'],
  ...['virtio_pci', 'virtio_console'],
]

/** A guest that boots: a kernel of Debian, and an initial RAM disk that attests over and over. */
export interface GuestImage {
  readonly kernel: string
  /** @param mark ends up in the measured RAM disk, and nowhere else */
  initialRamDisk(mark: string): Uint8Array
}

export function guestImage(): GuestImage {
  const kernel = join(PARTS, 'vmlinuz')
  if (!existsSync(kernel)) throw new Error('expected a kernel for guests: run scripts/setup')
  return {
    kernel,
    initialRamDisk: (mark) => gzipSync(archive([...files(), ['mark', utf8(mark), 0o644]])),
  }
}

type File = readonly [name: string, content: Uint8Array, mode: number]

/**
 * Attests until it is stopped. The token goes to the serial port, between two lines; a refusal leaves its reason there.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /bin
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t securityfs security /sys/kernel/security
for module in ${MODULES.join(' ')}; do insmod /modules/$module.ko; done
while :; do
  echo "attesting"
  if sigillo-attest >/tmp/token 2>/tmp/error; then
    echo "token: $(cat /tmp/token)"
  else
    echo "not attested: $(cat /tmp/error)"
  fi
  sleep 1
done
`

function files(): readonly File[] {
  const tpm2 = '/usr/bin/tpm2'
  const tools = [
    ...['createak', 'readpublic', 'startauthsession', 'policysecret', 'activatecredential'],
    ...['flushcontext', 'pcrread', 'quote'],
  ]
  const tcti = join('/usr/lib/x86_64-linux-gnu', 'libtss2-tcti-device.so.0')
  const libraries = [...new Set([...librariesOf(tpm2), ...librariesOf(tcti), tcti])]
  return [
    ['init', utf8(INIT), 0o755],
    ['bin/busybox', readFileSync(join(PARTS, 'busybox')), 0o755],
    ['usr/bin/sigillo-attest', readFileSync('guest/sigillo-attest'), 0o755],
    [tpm2.slice(1), readFileSync(tpm2), 0o755],
    ...tools.map(
      (tool): File => [`usr/bin/tpm2_${tool}`, utf8(`#!/bin/sh\nexec tpm2 ${tool} "$@"\n`), 0o755],
    ),
    ...libraries.map((path): File => [path.slice(1), readFileSync(path), 0o755]),
    ...MODULES.map(
      (name): File => [`modules/${name}.ko`, readFileSync(join(PARTS, `${name}.ko`)), 0o644],
    ),
  ]
}

function librariesOf(program: string): readonly string[] {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' })
  return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path)
}

/** cpio in the "newc" format, as the kernel unpacks it. @see Documentation/driver-api/early-userspace/buffer-format.rst */
function archive(entries: readonly File[]): Uint8Array {
  const folders = new Set<string>()
  for (const [name] of entries) {
    const parts = name.split('/').slice(0, -1)
    for (const index of parts.keys()) folders.add(parts.slice(0, index + 1).join('/'))
  }
  const all: readonly (readonly [string, Uint8Array, number])[] = [
    ...[...folders].sort().map((name): File => [name, new Uint8Array(), 0o040755]),
    ...entries.map(([name, content, mode]): File => [name, content, 0o100000 | mode]),
    ['TRAILER!!!', new Uint8Array(), 0],
  ]
  return Buffer.concat(
    all.flatMap(([name, content, mode], index) => {
      const fields = [index + 1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0]
      const head = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`
      return [padded(utf8(`${head}${name}\0`)), padded(content)]
    }),
  )
}

function padded(octets: Uint8Array): Uint8Array {
  const whole = new Uint8Array((octets.length + 3) & ~3)
  whole.set(octets)
  return whole
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
