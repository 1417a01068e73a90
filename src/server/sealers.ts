import type { Static } from 'typebox'
import { parseUtf8 } from '../core/bytes.js'
import { PlatformError, unreachable } from '../core/errors.js'
import { readText } from '../core/read-file.js'
import { readSecretFile } from '../core/secret-file.js'
import { createKmipClient, type KmipClient } from '../kmip/index.js'
import { kmipSealer, passphraseSealer, tpmSealer } from '../seals/index.js'
import type { Sealer } from '../store/index.js'
import type { Tpm } from '../tpm/index.js'
import type { SealSection } from './seal-config.js'

export type ConfiguredKind = Static<typeof SealSection>['automatic'][number]

/** Opens a TPM; given by who starts the process, so that services load no native code unless a seal needs it. */
export type OpenTpm = (options: {
  readonly tcti: string
  /** How long one command may take before the TPM counts as lost. */
  readonly deadlineMs: number
}) => Promise<Tpm>

/** Seals by the TPM of the authority, new ones to these PCRs. */
export type TpmSealerFor = (pcrs: readonly number[]) => Sealer

/** The TPM of the authority, for root keys and primary keys: all sealers of it take turns. */
export function configuredTpm(tcti: string, openTpm: OpenTpm | undefined): TpmSealerFor {
  const inTurn = turns()
  const open = () => opened(tcti, openTpm)
  return (pcrs) => oneAtATime(tpmSealer({ open, pcrs }), inTurn)
}

/** Gives the sealer that the settings describe for a kind; nothing is opened or read before it is used. */
export function configuredSealers(
  config: Static<typeof SealSection>,
  tpmSealerFor: TpmSealerFor,
): (kind: ConfiguredKind) => Sealer {
  return (kind) => {
    switch (kind) {
      case 'passphrase':
        return passphraseFileSealer(config.passphraseFile)
      case 'tpm':
        return tpmSealerFor(config.tpmPcrs)
      case 'kmip':
        return kmipSealer({ connect: () => kmipClient(config), keyId: config.kmipKeyId })
      default:
        return unreachable(kind)
    }
  }
}

/** A private key in PEM: RSA of 4096 bits takes 3.3 KiB. */
const MAX_KEY_FILE_OCTETS = 16 * 1024

/** A start must not wait long for a server that is down: it is tried again. */
const KMIP_TIMEOUTS = { connectMs: 3_000, requestMs: 5_000, overallMs: 8_000 } as const

function kmipClient(config: Static<typeof SealSection>): KmipClient {
  const { kmipServers, kmipCaFile, kmipCertificateFile, kmipKeyFile } = config
  if (kmipServers.length === 0 || !kmipCaFile || !kmipCertificateFile || !kmipKeyFile) {
    throw new PlatformError(
      'SEAL_SETTINGS',
      'expected seal.kmipServers, kmipCaFile, kmipCertificateFile and kmipKeyFile',
    )
  }
  using key = readSecretFile(kmipKeyFile, MAX_KEY_FILE_OCTETS)
  return createKmipClient({
    servers: kmipServers.map((name) => ({ name, ...addressOf(name) })),
    tls: {
      authorities: readText(kmipCaFile),
      certificate: readText(kmipCertificateFile),
      privateKey: key.use(parseUtf8),
    },
    timeouts: KMIP_TIMEOUTS,
    pool: { connections: 1 },
  })
}

function addressOf(text: string): { readonly host: string; readonly port: number } {
  const at = text.lastIndexOf(':')
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) }
}

/** Seals take no command that is long (their storage key is of P-256), and hosts wait for keys behind them. */
const TPM_DEADLINE_MS = 10_000

async function opened(tcti: string, openTpm: OpenTpm | undefined): Promise<Tpm> {
  if (openTpm) return openTpm({ tcti, deadlineMs: TPM_DEADLINE_MS })
  throw new PlatformError('SEAL_SETTINGS', 'this process was started without a way to a TPM')
}

/** A TPM without a resource manager has one user at a time, and the services of a process start together. */
function oneAtATime(sealer: Sealer, next: InTurn): Sealer {
  return {
    ...sealer,
    newKey: () => next(() => sealer.newKey()),
    keyOf: (parameters) => next(() => sealer.keyOf(parameters)),
  }
}

type InTurn = <R>(work: () => Promise<R>) => Promise<R>

function turns(): InTurn {
  let turn: Promise<unknown> = Promise.resolve()
  return (work) => {
    const run = turn.then(work)
    turn = run.catch(() => undefined)
    return run
  }
}

/** Reads the file each time, so that a passphrase is in memory no longer than it is needed. */
function passphraseFileSealer(file: string): Sealer {
  return {
    kind: 'passphrase',
    guesses: true,
    async newKey() {
      using passphrase = readSecretFile(file)
      return await passphraseSealer(passphrase).newKey()
    },
    async keyOf(parameters) {
      using passphrase = readSecretFile(file)
      return await passphraseSealer(passphrase).keyOf(parameters)
    },
  }
}
