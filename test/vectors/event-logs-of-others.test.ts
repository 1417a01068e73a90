import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { toHex } from '../../src/core/bytes.js'
import { failures } from '../../src/core/finding.js'
import {
  type EventLog,
  parseEventLog,
  replayEventLog,
  startupLocality,
  verifyEventLog,
} from '../../src/eventlog/index.js'
import { verifyEventOrder } from '../../src/eventlog/verify-order.js'
import type { HashName } from '../../src/tpm/index.js'
import { saySkipped, sharedVectors } from '../helpers/vectors.js'

/** Logs of other people's machines, with the verdicts that their manifest gives (section 2 of MANIFEST.md there). */
const shared = sharedVectors('attestation')
if (!shared) saySkipped('attestation: event logs', 154)

const GO_EVENT_LOGS = 'google_go-tpm-tools/internal/test/eventlogs'
const GO_ATTESTATION = 'google_go-attestation/attest/testdata'
const KEYLIME = 'keylime_keylime/test/data'
const TPM2_TOOLS = 'tpm2-software_tpm2-tools/test/integration/fixtures'
const CCEL = 'google_go-eventlog/testdata/eventlogs/ccel'
const TRUSTEE = 'confidential-containers_trustee/deps/eventlog/test_data'
const HIRS = 'nsacyber_HIRS/.ci/tcg-rim-tool/eventlogs'

/** Whole logs of machines with a TPM, in the crypto-agile format. */
const GENUINE: readonly (readonly [path: string, events: number, locality: number])[] = [
  [`${GO_EVENT_LOGS}/arch-linux-workstation.bin`, 24, 0],
  [`${GO_EVENT_LOGS}/confidential-gke-debug-251000_eventlog.bin`, 54, 0],
  [`${GO_EVENT_LOGS}/cos-101-amd-sev.bin`, 48, 0],
  [`${GO_EVENT_LOGS}/cos-85-amd-sev.bin`, 45, 0],
  [`${GO_EVENT_LOGS}/cos-93-amd-sev.bin`, 45, 0],
  [`${GO_EVENT_LOGS}/eventlogwithsp800155.bin`, 53, 0],
  [`${GO_EVENT_LOGS}/gdc-host.bin`, 158, 3],
  [`${GO_EVENT_LOGS}/glinux-alex.bin`, 28, 3],
  [`${GO_EVENT_LOGS}/rhel8-uefi.bin`, 82, 0],
  [`${GO_EVENT_LOGS}/ubuntu-1804-amd-sev.bin`, 87, 0],
  [`${GO_EVENT_LOGS}/ubuntu-2104-no-dbx.bin`, 111, 0],
  [`${GO_EVENT_LOGS}/ubuntu-2104-no-secure-boot.bin`, 105, 0],
  [`${GO_EVENT_LOGS}/ubuntu-2404-amd-sevsnp.bin`, 116, 0],
  [`${GO_ATTESTATION}/coreos_36_shielded_vm_no_secure_boot_eventlog`, 75, 0],
  [`${GO_ATTESTATION}/crypto_agile_eventlog`, 26, 0],
  [`${GO_ATTESTATION}/ubuntu_2104_shielded_vm_no_secure_boot_eventlog`, 105, 0],
  [`${KEYLIME}/create-mb-policy/binary_bios_measurements`, 120, 3],
  [`${KEYLIME}/create-mb-policy/binary_bios_measurements-secureboot`, 98, 0],
  [`${KEYLIME}/mb_log.b64`, 101, 0],
  [`${TPM2_TOOLS}/event-arch-linux.bin`, 24, 0],
  [`${TPM2_TOOLS}/event-bootorder.bin`, 103, 0],
  [`${TPM2_TOOLS}/event-gce-ubuntu-2104-log.bin`, 111, 0],
  [`${TPM2_TOOLS}/event-moklisttrusted.bin`, 96, 0],
  [`${TPM2_TOOLS}/event-postcode.bin`, 58, 0],
  [`${TPM2_TOOLS}/event-sd-boot-fedora37.bin`, 27, 0],
  [`${HIRS}/TpmLog.bin`, 55, 0],
  [`${HIRS}/TpmLog2.bin`, 55, 0],
]

/** Logs that are read and replayed, and not accepted as the boot of a machine with a TPM. */
const READABLE: readonly (readonly [path: string, events: number, code: string])[] = [
  // A type that the profile does not have, in PCR 2 behind its separator
  ['keylime_rust-keylime/keylime/test-data/uefi_log.bin', 123, 'EVENTLOG_EVENT_TYPE'],
  // PCR 7 and PCR 4 alone
  [`${GO_ATTESTATION}/sb_cert_eventlog`, 14, 'EVENTLOG_SEPARATOR'],
  // One event each
  [`${TPM2_TOOLS}/event-uefiservices.bin`, 1, 'EVENTLOG_SEPARATOR'],
  [`${TPM2_TOOLS}/event.bin`, 1, 'EVENTLOG_SEPARATOR'],
  // Measurement registers of TDX in place of PCRs
  [`${TRUSTEE}/CCEL_AAEL_alibabacloud`, 87, 'EVENTLOG_EVENT_TYPE'],
  [`${TRUSTEE}/CCEL_data_grub`, 37, 'EVENTLOG_EVENT_TYPE'],
  [`${CCEL}/CCEL_unpadded.data.bin`, 19, 'EVENTLOG_EVENT_TYPE'],
  [`${CCEL}/cos-113-intel-tdx-dupe-separator-unpadded.bin`, 43, 'EVENTLOG_SEPARATOR'],
]

const SHA1_ALONE: readonly (readonly [path: string, events: number])[] = [
  [`${GO_EVENT_LOGS}/debian-10.bin`, 25],
  [`${GO_ATTESTATION}/ebs_event_missing_eventlog`, 38],
  [`${GO_ATTESTATION}/option_rom_eventlog`, 61],
  [`${GO_ATTESTATION}/short_no_action_eventlog`, 1],
  [`${TPM2_TOOLS}/event-uefi-sha1-log.bin`, 17],
]

const UNREADABLE: readonly (readonly [path: string, code: string])[] = [
  [`${KEYLIME}/create-mb-policy/binary_bios_measurements-bogus`, 'EVENTLOG_EVENT'],
  [`${KEYLIME}/create-mb-policy/binary_bios_measurements-empty`, 'DECODE_TRUNCATED'],
  // No log at all: the template of an endorsement key, ACPI tables
  [`${TPM2_TOOLS}/ek-template-default.bin`, 'EVENTLOG_EVENT'],
  [`${CCEL}/CCEL.bin`, 'EVENTLOG_EVENT'],
  [`${CCEL}/cos-113-intel-tdx.table.bin`, 'EVENTLOG_EVENT'],
  // A header with four algorithms before an event with two digests: made by hand
  [`${TPM2_TOOLS}/event-uefiaction.bin`, 'EVENTLOG_ALGORITHM'],
  [`${TPM2_TOOLS}/event-uefivar.bin`, 'EVENTLOG_ALGORITHM'],
  // A header event whose size leaves out its vendor information: made by hand
  [`${TPM2_TOOLS}/specid-vendordata.bin`, 'DECODE_TRUNCATED'],
]

type Banks = Readonly<Record<string, Readonly<Record<string, string>>>>

function octetsOf(path: string): Uint8Array {
  const octets = readFileSync(join(shared ?? '', path))
  return path.endsWith('.b64') ? Buffer.from(octets.toString(), 'base64') : octets
}

function json<T>(path: string): T {
  return JSON.parse(readFileSync(join(shared ?? '', path), 'utf8')) as T
}

const logOf = (path: string): EventLog => parseEventLog(octetsOf(path))

function modernBank({ banks }: EventLog): HashName {
  const bank = banks.find((name) => name === 'sha256') ?? banks.at(-1)
  if (!bank) throw new TypeError('a bank')
  return bank
}

function replayed(log: EventLog, bank: HashName): Readonly<Record<string, string>> {
  return Object.fromEntries([...replayEventLog(log, bank)].map(([pcr, v]) => [pcr, toHex(v)]))
}

describe.runIf(shared)('genuine logs', () => {
  test.each(GENUINE)('%s: %i events, start-up locality %i', (path, events, locality) => {
    const log = logOf(path)
    expect(log.format).toBe('crypto-agile')
    expect(log.events).toHaveLength(events)
    expect(startupLocality(log)).toBe(locality)
    expect(log.quirks).toEqual([])
  })

  test.each(GENUINE)('%s has its events in an order that can have happened', (path) => {
    const log = logOf(path)
    expect(failures(verifyEventOrder(log, modernBank(log)))).toEqual([])
  })

  test.each(GENUINE)('%s has nothing but the PCRs that were altered refused', (path) => {
    const log = logOf(path)
    const values = replayEventLog(log, modernBank(log))
    const { findings } = verifyEventLog(log, modernBank(log), values)
    expect(failures(findings)).toEqual([])
    const altered = new Map(values).set(4, new Uint8Array(32))
    const refused = verifyEventLog(log, modernBank(log), altered)
    expect(failures(refused.findings)).toEqual([
      expect.objectContaining({ code: 'EVENTLOG_REPLAY', pcr: 4 }),
    ])
  })
})

describe.runIf(shared)('logs that are read, and refused', () => {
  test.each(READABLE)('%s: %i events, %s', (path, events, code) => {
    const log = logOf(path)
    expect(log.events).toHaveLength(events)
    const codes = failures(verifyEventOrder(log, modernBank(log))).map((finding) => finding.code)
    expect(codes).toContain(code)
  })

  test.each(SHA1_ALONE)('%s: %i events, SHA-1 alone', (path, events) => {
    const log = logOf(path)
    expect(log.format).toBe('sha1')
    expect(log.events).toHaveLength(events)
    for (const bank of ['sha1', 'sha256'] as const) {
      const { findings } = verifyEventLog(log, bank, replayEventLog(log, bank))
      expect(failures(findings).map(({ code }) => code)).toEqual(['EVENTLOG_SHA1'])
    }
  })

  test.each(UNREADABLE)('%s cannot be read: %s', (path, code) => {
    expect(() => logOf(path)).toThrow(expect.objectContaining({ code }))
  })
})

describe.runIf(shared)('replay agrees', () => {
  const results = shared
    ? json<Readonly<Record<string, { readonly replay?: Banks }>>>('replay-results.json')
    : {}
  const paths = [...GENUINE, ...READABLE, ...SHA1_ALONE].map(([path]) => path)

  test.each(paths.filter((path) => results[path]?.replay))(
    'with another program, in every bank of %s',
    (path) => {
      const log = logOf(path)
      for (const [bank, values] of Object.entries(results[path]?.replay ?? {})) {
        expect(replayed(log, bank as HashName)).toEqual(values)
      }
    },
  )

  const machines = shared
    ? json<Readonly<Record<string, Machine>>>('google_go-tpm-tools/expected-pcrs.json')
    : {}

  test.each(Object.entries(machines))('with the PCRs read from the machine: %s', (_, machine) => {
    const log = logOf(join('google_go-tpm-tools', machine.file))
    for (const [bank, values] of Object.entries(machine.banks)) {
      expect(replayed(log, bank as HashName)).toMatchObject(values)
    }
  })

  const fixtures = GENUINE.map(([path]) => path).filter((path) => path.startsWith(TPM2_TOOLS))

  test.each(fixtures)('with tpm2_eventlog: %s', (path) => {
    const yaml = readFileSync(
      join(shared ?? '', path.replace(/([^/]+)$/, 'event-pretty/$1.yaml')),
      'utf8',
    )
    const log = logOf(path)
    const expected = pcrsOf(yaml)
    expect(Object.keys(expected)).not.toEqual([])
    for (const [bank, values] of Object.entries(expected)) {
      expect(replayed(log, bank as HashName)).toEqual(values)
    }
  })

  test('a log without the end of boot services does not lead to PCR 5 of its machine', () => {
    type Expected = Readonly<Record<string, { readonly banks: Banks }>>
    const { ebs_event_missing_eventlog: machine } = json<Expected>(
      'google_go-attestation/expected-pcrs.json',
    )
    const values = replayed(logOf(`${GO_ATTESTATION}/ebs_event_missing_eventlog`), 'sha1')
    expect(values['5']).not.toBe(machine?.banks['sha1']?.['5'])
  })
})

interface Machine {
  readonly file: string
  readonly banks: Banks
  readonly efiAppDigests: Readonly<Record<string, readonly string[]>>
  readonly kernelCommandLine?: string
}

describe.runIf(shared)('what was booted', () => {
  const machines = shared
    ? json<Readonly<Record<string, Machine>>>('google_go-tpm-tools/expected-pcrs.json')
    : {}
  const summaryOf = (path: string) => {
    const log = logOf(path)
    const bank = modernBank(log)
    return verifyEventLog(log, bank, replayEventLog(log, bank)).summary
  }
  const withCommandLine = Object.entries(machines).filter(([, { kernelCommandLine }]) =>
    Boolean(kernelCommandLine),
  )

  test.each(withCommandLine)('%s: the command line of its kernel', (_, machine) => {
    const { commandLine } = summaryOf(join('google_go-tpm-tools', machine.file))
    expect(`${commandLine}\0`).toBe(machine.kernelCommandLine)
  })

  test.each([
    [`${KEYLIME}/create-mb-policy/binary_bios_measurements-secureboot`, 'on'],
    [`${KEYLIME}/create-mb-policy/binary_bios_measurements`, 'off'],
    [`${GO_EVENT_LOGS}/ubuntu-2104-no-secure-boot.bin`, 'off'],
    // The variable has no octets
    [`${GO_EVENT_LOGS}/arch-linux-workstation.bin`, 'unknown'],
  ] as const)('%s: Secure Boot %s', (path, expected) => {
    expect(summaryOf(path).secureBoot).toBe(expected)
  })
})

/** The `pcrs:` block of a file of tpm2_eventlog, by bank and index. */
function pcrsOf(yaml: string): Banks {
  const banks: Record<string, Record<string, string>> = {}
  let bank = ''
  for (const line of yaml.slice(yaml.indexOf('\npcrs:')).split('\n')) {
    const name = /^ {2}(sha\d+):$/.exec(line)?.[1]
    const [, pcr, value] = /^ {4}(\d+) *: 0x([0-9a-f]+)$/.exec(line) ?? []
    if (name) bank = name
    if (pcr && value) banks[bank] = { ...banks[bank], [pcr]: value }
  }
  return banks
}
