import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'
import { toHex } from '../../src/core/bytes.js'
import { isPlatformError } from '../../src/core/errors.js'
import { guidText } from '../../src/eventlog/guid.js'
import {
  coverageOf,
  decodeEvent,
  describeBoot,
  describeEvent,
  type EventContent,
  type EventLog,
  eventLine,
  eventTypeName,
  type LoggedEvent,
  parseEventLog,
} from '../../src/eventlog/index.js'
import { parseSignatureLists } from '../../src/eventlog/signature-list.js'
import type { HashName } from '../../src/tpm/index.js'
import { measuredBoot, saySkipped, sharedVectors } from '../helpers/vectors.js'

/** What the events of other people's machines say, compared with what other programs read in them. */
const shared = sharedVectors('attestation')
if (!shared) saySkipped('attestation: contents of event logs', 60)

const TPM2_TOOLS = 'tpm2-software_tpm2-tools/test/integration/fixtures'
const TRUSTEE = 'confidential-containers_trustee/deps/eventlog/test_data'
const WINDOWS = 'google_go-attestation/attest/testdata/windows_gcp_shielded_vm.json'
const SECURE_BOOT = 'keylime_keylime/test/data/create-mb-policy/binary_bios_measurements-secureboot'
const MIN_LOG_OCTETS = 40
const MAX_LOG_OCTETS = 1024 * 1024

function octetsOf(path: string): Uint8Array {
  const octets = readFileSync(join(shared ?? '', path))
  if (path.endsWith('.b64')) return Buffer.from(octets.toString(), 'base64')
  if (!path.endsWith('.json')) return octets
  // Evidence that go-attestation keeps: the log is one member of it.
  const { Log } = JSON.parse(octets.toString()) as { readonly Log?: { readonly Raw?: string } }
  return Buffer.from(Log?.Raw ?? '', 'base64')
}

const logOf = (path: string): EventLog => parseEventLog(octetsOf(path))
const bankOf = ({ banks }: EventLog): HashName =>
  banks.find((bank) => bank === 'sha256') ?? banks.at(-1) ?? 'sha1'

/** Every file of the shared vectors that can be read as a log with events. */
function readableLogs(): readonly (readonly [path: string, log: EventLog])[] {
  if (!shared) return []
  return filesBelow(shared).flatMap((file) => {
    const { size } = statSync(file)
    if (size < MIN_LOG_OCTETS || size > MAX_LOG_OCTETS) return []
    const path = relative(shared, file)
    try {
      const log = logOf(path)
      return log.events.length > 0 ? [[path, log] as const] : []
    } catch (error) {
      if (isPlatformError(error) || error instanceof SyntaxError) return []
      throw error
    }
  })
}

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesBelow(join(folder, entry.name)) : [join(folder, entry.name)],
  )
}

const logs = readableLogs()

describe.runIf(shared)('every log of the shared vectors', () => {
  test('is among them', () => {
    expect(logs.length).toBeGreaterThanOrEqual(51)
    expect(logs.reduce((count, [, log]) => count + log.events.length, 0)).toBeGreaterThan(2700)
  })

  test('is decoded, but for two events of all', () => {
    const unread = logs.flatMap(([path, log]) =>
      log.events.flatMap((event) => {
        const content = decodeEvent(event)
        const isUnread =
          content.kind === 'opaque' ||
          (content.kind === 'variable' && content.meaning.kind === 'unreadable')
        return isUnread ? [`${path.split('/').at(-1)} ${event.index}`] : []
      }),
    )
    expect(unread).toEqual([
      // Entries of Windows with a size beyond the end of the event
      'option_rom_eventlog 60',
      // A type that the profile does not have
      'uefi_log.bin 41',
    ])
  })

  test('has few data that only their maker can read', () => {
    const unknown = new Map<string, number>()
    for (const [, log] of logs) {
      for (const event of log.events) {
        const name = makersOwn(event)
        if (name) unknown.set(name, (unknown.get(name) ?? 0) + 1)
      }
    }
    expect(Object.fromEntries(unknown)).toEqual({
      // Counters that Windows measures, of four octets
      EV_COMPACT_HASH: 4,
      'EV_NONHOST_INFO GCE NonHostInfo': 8,
      'EV_NONHOST_INFO IntelCSxEEvent01': 1,
      'EV_NONHOST_INFO IntelCSxEInfoEvent': 1,
      EV_PLATFORM_CONFIG_FLAGS: 4,
      // Structures of a maker in place of text
      EV_S_CRTM_VERSION: 2,
      'variable LenovoConfig': 3,
      'variable LenovoRuntimeConfig': 2,
      'variable LenovoSecurityConfig': 3,
    })
  })

  test('says what is covered by its digests, with few mismatches', () => {
    const mismatches = logs.flatMap(([path, log]) =>
      log.events
        .filter((event) => coverageOf(event, bankOf(log)).kind === 'mismatch')
        .map(({ index, type }) => `${path.split('/').at(-1)} ${index} ${eventTypeName(type)}`),
    )
    const settings = [6, 7, 8, 9, 10]
    expect(mismatches).toEqual([
      // TPM 1.2: this firmware measured something else of its settings
      ...settings.map((index) => `linux_tpm12.json ${index} EV_EFI_VARIABLE_DRIVER_CONFIG`),
      'gdc-host.bin 2 EV_S_CRTM_VERSION',
    ])
  })

  test('is written as JSON and as lines, in short printable text', () => {
    const printable = /^[\x20-\x7e…]*$/
    for (const [, log] of logs) {
      for (const event of log.events) {
        const text = JSON.stringify(describeEvent(event, bankOf(log)))
        expect(text).toMatch(printable)
        expect(text.length).toBeLessThan(2_000 + 20 * event.data.length)
        const line = eventLine(event, bankOf(log))
        expect(line).toMatch(printable)
        expect(line.length).toBeLessThan(600)
      }
    }
  })
})

function makersOwn(event: LoggedEvent): string | undefined {
  const content = decodeEvent(event)
  if (content.kind === 'octets') {
    return [eventTypeName(event.type), content.label].filter(Boolean).join(' ')
  }
  return content.kind === 'variable' && content.meaning.kind === 'octets'
    ? `variable ${content.name}`
    : undefined
}

/** Values of one key in a file of tpm2_eventlog, in their order, as they are written. */
function valuesOf(yaml: string, key: string): readonly string[] {
  const lines = yaml.matchAll(new RegExp(`^[ -]*${key}: (.*)$`, 'gm'))
  return [...lines].map(([, value]) => (value ?? '').replace(/^(["'])(.*)\1$/, '$2'))
}

describe.runIf(shared)('tpm2_eventlog', () => {
  const folder = join(shared ?? '', TPM2_TOOLS, 'event-pretty')
  const names = (shared ? readdirSync(folder) : [])
    .map((name) => name.replace(/\.yaml$/, ''))
    // Logs that it reads and that contradict themselves: a header with four algorithms before an event with two
    .filter((name) => !['event-uefiaction.bin', 'event-uefivar.bin'].includes(name))

  const filesOf = (name: string) => ({
    yaml: readFileSync(join(folder, `${name}.yaml`), 'utf8'),
    log: logOf(`${TPM2_TOOLS}/${name}`),
  })
  const contentsOf = (log: EventLog) => log.events.map((event) => decodeEvent(event))

  test('has eight logs to compare with', () => expect(names.length).toBe(shared ? 8 : 0))

  test.each(names)('finds the same events and digests in %s', (name) => {
    const { yaml, log } = filesOf(name)
    const types = valuesOf(yaml, 'EventType').slice(log.format === 'sha1' ? 0 : 1)
    expect(log.events.map(({ type }) => eventTypeName(type))).toEqual(types)
    if (log.format === 'sha1') return
    const counts = valuesOf(yaml, 'DigestCount').map(Number)
    expect(log.events.map(({ digests }) => digests.size)).toEqual(counts)
  })

  test.each(names)('reads the same variables, boot options and signatures in %s', (name) => {
    const { yaml, log } = filesOf(name)
    const variables = contentsOf(log).filter((content) => content.kind === 'variable')
    expect(variables.map((variable) => variable.guid)).toEqual(valuesOf(yaml, 'VariableName'))
    expect(variables.map((variable) => variable.name)).toEqual(valuesOf(yaml, 'UnicodeName'))
    const lists = variables.filter(({ meaning }) => meaning.kind === 'signature-lists')
    const signatures = lists
      .flatMap(({ value }) => parseSignatureLists(value))
      .flatMap((list) => list.signatures)
    const authorities = variables.filter(({ meaning }) => meaning.kind === 'authority')
    const owners = valuesOf(yaml, 'SignatureOwner')
    // Older files of it leave the values of variables as octets
    if (owners.length === 0) return
    expect(owners).toEqual(expect.arrayContaining(signatures.map(({ owner }) => guidText(owner))))
    expect(owners.length - signatures.length).toBeLessThanOrEqual(authorities.length)
    const data = new Set(valuesOf(yaml, 'SignatureData'))
    for (const signature of signatures) expect(data).toContain(toHex(signature.data))
    const options = variables.flatMap(({ meaning }) =>
      meaning.kind === 'load-option' ? [meaning.option.description] : [],
    )
    expect(options).toEqual(expect.arrayContaining([...valuesOf(yaml, 'Description')]))
  })

  test.each(names)('writes the same device paths in %s', (name) => {
    const { yaml, log } = filesOf(name)
    const ours = new Set(contentsOf(log).flatMap(devicePathOf).map(likeEfivar))
    const theirs = valuesOf(yaml, 'DevicePath')
      // Written as octets where it was built without efivar; network and legacy nodes in a form of its own
      .filter((path) => path !== '' && !/^[0-9a-f]+$|IPv4|BBS/.test(path))
    for (const path of theirs) expect(ours).toContain(likeEfivar(path))
  })

  test.each(names)('reads the same partitions and firmware in %s', (name) => {
    const { yaml, log } = filesOf(name)
    const contents = contentsOf(log)
    const hex = (value: bigint) => `0x${value.toString(16)}`
    const tables = contents.flatMap((content) =>
      content.kind === 'partitions' ? [content.table] : [],
    )
    const blobs = contents.flatMap((content) => (content.kind === 'firmware' ? [content.blob] : []))
    expect(blobs.map(({ address }) => hex(address))).toEqual(valuesOf(yaml, 'BlobBase'))
    expect(blobs.map(({ length }) => hex(length))).toEqual(valuesOf(yaml, 'BlobLength'))
    // Older files of it leave partition tables as octets
    if (!yaml.includes('DiskGUID')) return
    const partitions = tables.flatMap((table) => table.partitions)
    expect(tables.map(({ diskGuid }) => diskGuid)).toEqual(valuesOf(yaml, 'DiskGUID'))
    expect(partitions.map(({ type }) => type)).toEqual(valuesOf(yaml, 'PartitionTypeGUID'))
    expect(partitions.map(({ guid }) => guid)).toEqual(valuesOf(yaml, 'UniquePartitionGUID'))
    expect(partitions.map(({ firstLba }) => hex(firstLba))).toEqual(valuesOf(yaml, 'StartingLBA'))
    expect(partitions.map(({ lastLba }) => hex(lastLba))).toEqual(valuesOf(yaml, 'EndingLBA'))
    expect(partitions.map((partition) => partition.name)).toEqual(valuesOf(yaml, 'PartitionName'))
  })
})

function devicePathOf(content: EventContent): readonly string[] {
  if (content.kind === 'image') return [content.devicePath]
  return content.kind === 'variable' && content.meaning.kind === 'load-option'
    ? [content.meaning.option.devicePath]
    : []
}

/** efivar writes some nodes other than the standard does. */
function likeEfivar(path: string): string {
  return path
    .replace(/File\(([^)]*)\)/g, '$1')
    .replaceAll('FvVol(', 'Fv(')
    .replace(/(scsi|nvme|sata|usb)\(([^)]*)\)/gi, (_, name: string, fields: string) => {
      const numbers = fields.split(',').map((field) => (/^0x/i.test(field) ? Number(field) : field))
      return `${name}(${numbers.join(',')})`
    })
    .toLowerCase()
}

describe.runIf(shared)('Trustee', () => {
  interface Described {
    readonly digest_matches_event: boolean
    readonly details: { readonly unicode_name?: string }
  }

  test.each(['CCEL_data_grub', 'CCEL_AAEL_alibabacloud'])(
    'finds the same events covered whole, and the same variables, in %s',
    (name) => {
      const log = logOf(`${TRUSTEE}/${name}`)
      const { uefi_event_logs: theirs } = JSON.parse(
        readFileSync(join(shared ?? '', TRUSTEE, `${name}_out.json`), 'utf8'),
      ) as { readonly uefi_event_logs: readonly Described[] }
      expect(log.events).toHaveLength(theirs.length)
      const covered = log.events.map((event) => coverageOf(event, 'sha384').kind === 'data')
      expect(covered).toEqual(theirs.map((event) => event.digest_matches_event))
      const names = log.events.flatMap((event) => {
        const content = decodeEvent(event)
        return content.kind === 'variable' ? [content.name] : []
      })
      // They put the tag of their own agent there too
      const variables = theirs.flatMap(({ details }) => details.unicode_name ?? [])
      expect(names).toEqual(variables.filter((variable) => variable !== 'AAEL'))
    },
  )
})

describe.runIf(shared)('Windows', () => {
  type Entry = Extract<EventContent, { kind: 'windows' }>['entries'][number]
  const flat = (entries: readonly Entry[]): readonly Entry[] =>
    entries.flatMap((entry) => [entry, ...flat(entry.entries ?? [])])

  test('says what its boot was, as go-attestation reads it', () => {
    const entries = logOf(WINDOWS).events.flatMap((event) => {
      const content = decodeEvent(event)
      return content.kind === 'windows' ? flat(content.entries) : []
    })
    const numbers = (name: string) => [
      ...new Set(entries.flatMap((entry) => (entry.name === name ? (entry.number ?? []) : []))),
    ]
    expect(numbers('BOOTCOUNTER')).toEqual([4n])
    expect(numbers('CODEINTEGRITY')).toEqual([1n])
    expect(numbers('DATAEXECUTIONPREVENTION')).toEqual([1n])
    expect(numbers('BOOTDEBUGGING')).toEqual([0n])
    const texts = new Set(entries.flatMap(({ text }) => text ?? []))
    expect(texts).toContain('Windows Defender')
    expect(texts).toContain('Microsoft Windows Production PCA 2011')
    expect(entries.filter(({ name }) => name === undefined).map(({ id }) => id)).toEqual(
      expect.arrayContaining([0x5_0014, 0x5_0029]),
    )
  })
})

describe.runIf(shared)('Secure Boot variables', () => {
  test('name the certificates of the machine', () => {
    const log = logOf('google_go-tpm-tools/internal/test/eventlogs/ubuntu-1804-amd-sev.bin')
    const subjects = (wanted: string) =>
      log.events.flatMap((event) => {
        const content = decodeEvent(event)
        if (content.kind !== 'variable' || content.name !== wanted) return []
        if (content.meaning.kind !== 'signature-lists') return []
        return content.meaning.lists.flatMap(({ signatures }) =>
          signatures.flatMap((entry) =>
            'certificate' in entry ? (entry.certificate.subject?.split('CN=').at(-1) ?? []) : [],
          ),
        )
      })
    expect(subjects('db')).toEqual([
      'Microsoft Corporation UEFI CA 2011',
      'Microsoft Windows Production PCA 2011',
    ])
    expect(subjects('KEK')).toEqual(['Microsoft Corporation KEK CA 2011'])
  })

  test.each([
    ['google_go-tpm-tools/internal/test/eventlogs/ubuntu-2104-no-dbx.bin', 0],
    ['google_go-tpm-tools/internal/test/eventlogs/gdc-host.bin', 459],
    [SECURE_BOOT, 371],
  ])('have the forbidden hashes for a policy: %s', (path, count) => {
    const log = logOf(path)
    const { dbx } = describeBoot(log, bankOf(log))
    expect(dbx?.covered).toBe(true)
    expect(dbx?.hashes).toHaveLength(count)
    for (const hash of dbx?.hashes ?? []) expect(hash).toMatch(/^[0-9a-f]{64}$/)
  })
})

test('a boot with shim and GRUB is told line by line', () => {
  const log = parseEventLog(measuredBoot('04-shim-grub-sb-on-mskeys', 'binary_bios_measurements'))
  const lines = log.events.map((event) => eventLine(event, 'sha256').replace(/ {2}sha256:.*/, ''))
  expect(lines).toEqual(
    expect.arrayContaining([
      expect.stringMatching(
        /^\d+ {2}PCR 7 {2}EV_EFI_VARIABLE_DRIVER_CONFIG {2}SecureBoot: on {2}\[data]$/,
      ),
      expect.stringMatching(/SbatLevel: sbat,1,2025021800 shim,4 grub,5 {2}\[data]$/),
      expect.stringMatching(/EV_EFI_BOOT_SERVICES_APPLICATION {2}.*grubx64\.efi {2}\[described]$/),
      expect.stringMatching(/"kernel_cmdline: .*" {2}\[part: the text behind "kernel_cmdline: "]$/),
      expect.stringMatching(/PCR 14 {2}EV_IPL {2}"MokList" {2}\[described]$/),
    ]),
  )
})
