import type { LoggedCertificate } from './certificate.js'
import type { FirmwareBlob, HandoffTables } from './firmware-tables.js'
import type { PartitionTable } from './gpt.js'
import type { LoaderEvent } from './loader-event.js'
import type { MicrocodeHeader } from './microcode.js'
import type { NoActionEvent } from './no-action-event.js'
import type { SpdmEvent } from './spdm-event.js'
import type { VariableMeaning } from './variable-meaning.js'
import type { WindowsEntry } from './windows-event.js'

/**
 * What the data of an event say, as a tree of named values.
 *
 * All of it is the host's word, but for what `coverageOf` says is covered. Text is escaped and bounded; octets are views of
 * the log.
 */
export type EventContent =
  | {
      readonly kind: 'variable'
      readonly guid: string
      /** What the GUID stands for, where it is known. */
      readonly vendor?: string
      readonly name: string
      readonly value: Uint8Array
      readonly meaning: VariableMeaning
      readonly trailingOctets?: number
    }
  | {
      readonly kind: 'image'
      readonly devicePath: string
      readonly fileName: string | undefined
      readonly address: bigint
      readonly length: bigint
    }
  | { readonly kind: 'text'; readonly text: string; readonly loader?: Omit<LoaderEvent, 'text'> }
  | { readonly kind: 'separator'; readonly error: boolean }
  /** What Windows puts into the PCRs that it will extend no more. */
  | { readonly kind: 'windows-separator' }
  | { readonly kind: 'partitions'; readonly table: PartitionTable }
  | { readonly kind: 'firmware'; readonly blob: FirmwareBlob }
  | { readonly kind: 'tables'; readonly handoff: HandoffTables }
  | { readonly kind: 'microcode'; readonly update: MicrocodeHeader }
  | { readonly kind: 'certificate'; readonly certificate: LoggedCertificate }
  | { readonly kind: 'no-action'; readonly event: NoActionEvent }
  | { readonly kind: 'tag'; readonly id: number; readonly name?: string; readonly text: string }
  | { readonly kind: 'windows'; readonly entries: readonly WindowsEntry[] }
  | { readonly kind: 'spdm'; readonly event: SpdmEvent }
  /** Data that the standard leaves to whoever measures. */
  | { readonly kind: 'octets'; readonly label?: string; readonly data: Uint8Array }
  /** A type that is not known, or data that its type cannot have. */
  | { readonly kind: 'opaque' }
