import type { ErrorCode } from '../core/error-codes.js'
import { PlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import type { EfiVariable } from './efi-variable.js'
import type { EventTypeName } from './event-types.js'
import { GLOBAL_VARIABLE_GUID, IMAGE_SECURITY_GUID, SHIM_GUID } from './guid.js'
import { type LoadOption, parseLoadOption } from './load-option.js'
import { parseSbatLevel, type SbatEntry } from './sbat-level.js'
import {
  type DescribedSignature,
  type DescribedSignatureList,
  describeAuthority,
  describeSignatureLists,
  parseSignatureLists,
} from './signature-list.js'
import { must } from './sized.js'

/** What the value of a variable says, by the name and the vendor of the variable. */
export type VariableMeaning =
  | { readonly kind: 'empty' }
  | { readonly kind: 'flag'; readonly set: boolean }
  | {
      readonly kind: 'signature-lists'
      readonly lists: readonly DescribedSignatureList[]
    }
  | { readonly kind: 'authority'; readonly signature: DescribedSignature }
  | { readonly kind: 'sbat-level'; readonly entries: readonly SbatEntry[] }
  | { readonly kind: 'boot-order'; readonly options: readonly string[] }
  | { readonly kind: 'load-option'; readonly option: LoadOption }
  /** A variable of nobody whom Sigillo knows. */
  | { readonly kind: 'octets' }
  /** A variable that is known, with a value that it cannot have. */
  | { readonly kind: 'unreadable'; readonly code: ErrorCode }

type Reading = (value: Uint8Array) => VariableMeaning

const flag: Reading = (value) => {
  const reader = new ByteReader(value, 'little')
  const octet = reader.u8()
  reader.end('a flag')
  must(octet <= 1, reader, '0 or 1')
  return { kind: 'flag', set: octet === 1 }
}
const signatureLists: Reading = (value) => ({
  kind: 'signature-lists',
  lists: describeSignatureLists(parseSignatureLists(value)),
})
const authority: Reading = (value) => ({ kind: 'authority', signature: describeAuthority(value) })
const sbatLevel: Reading = (value) => ({ kind: 'sbat-level', entries: parseSbatLevel(value) })
const loadOption: Reading = (value) => ({ kind: 'load-option', option: parseLoadOption(value) })

const MAX_OPTIONS = 1024

/** @see UEFI Specification, clause 3.3 (globally defined variables) */
const order =
  (prefix: string): Reading =>
  (value) => {
    const reader = new ByteReader(value, 'little')
    must(value.length % 2 === 0, reader, 'whole numbers of load options')
    must(value.length <= 2 * MAX_OPTIONS, reader, `at most ${MAX_OPTIONS} load options`)
    const options: string[] = []
    while (reader.remaining > 0) {
      options.push(`${prefix}${reader.u16().toString(16).toUpperCase().padStart(4, '0')}`)
    }
    return { kind: 'boot-order', options }
  }

const READINGS: Readonly<Record<string, ReadonlyMap<string, Reading>>> = {
  [GLOBAL_VARIABLE_GUID]: new Map([
    ...(['SecureBoot', 'SetupMode', 'AuditMode', 'DeployedMode'] as const).map(
      (name) => [name, flag] as const,
    ),
    ['PK', signatureLists],
    ['KEK', signatureLists],
    ['BootOrder', order('Boot')],
    ['DriverOrder', order('Driver')],
    ['SysPrepOrder', order('SysPrep')],
    ['BootNext', order('Boot')],
    ['BootCurrent', order('Boot')],
  ]),
  [IMAGE_SECURITY_GUID]: new Map(
    ['db', 'dbx', 'dbt', 'dbr', 'vendor_db', 'vendor_dbx'].map((name) => [name, signatureLists]),
  ),
  [SHIM_GUID]: new Map([
    ...['MokList', 'MokListX', 'MokListRT', 'MokListXRT'].map(
      (name) => [name, signatureLists] as const,
    ),
    ...['MokListTrusted', 'MokListTrustedRT', 'MokSBState', 'MokDBState', 'MokIgnoreDB'].map(
      (name) => [name, flag] as const,
    ),
    ...['SbatLevel', 'SbatLevelRT', 'SBAT'].map((name) => [name, sbatLevel] as const),
  ]),
}

const LOAD_OPTION = /^(?:Boot|Driver|SysPrep|PlatformRecovery)[0-9A-F]{4}$/
const AUTHORITY_TYPES: readonly (EventTypeName | undefined)[] = [
  'EV_EFI_VARIABLE_AUTHORITY',
  'EV_EFI_SPDM_DEVICE_AUTHORITY',
]

/** Never throws: a value that cannot be read is `unreadable`, with the reason. */
export function variableMeaning(
  { guid, name, value }: EfiVariable,
  type: EventTypeName | undefined,
): VariableMeaning {
  if (value.length === 0) return { kind: 'empty' }
  const reading = readingOf(guid, name, type)
  if (!reading) return { kind: 'octets' }
  try {
    return reading(value)
  } catch (error) {
    if (error instanceof PlatformError) return { kind: 'unreadable', code: error.code }
    throw error
  }
}

function readingOf(
  guid: string,
  name: string,
  type: EventTypeName | undefined,
): Reading | undefined {
  const known = READINGS[guid]?.get(name)
  // An authority event has one entry of the list that it names; flags and levels are measured as they are.
  if (AUTHORITY_TYPES.includes(type)) {
    return known === undefined || known === signatureLists ? authority : known
  }
  if (type === 'EV_EFI_SPDM_DEVICE_POLICY') return signatureLists
  if (guid === GLOBAL_VARIABLE_GUID && LOAD_OPTION.test(name)) return loadOption
  return known
}
