import { type Static, Type } from 'typebox'
import { Exactly, Name, Sentence, Time } from './common.js'
import { type Needs, onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/operator/v1'

/** Who opens the seals of services: the same operations for each, under its name. */
export const SealedService = Type.Union([
  Type.Literal('attestation'),
  Type.Literal('key-provider'),
  Type.Literal('control-plane'),
])
export type SealedService = Static<typeof SealedService>

export const SealKindName = Type.Union([
  Type.Literal('passphrase'),
  Type.Literal('shares'),
  Type.Literal('tpm'),
  Type.Literal('kmip'),
])
export type SealKindName = Static<typeof SealKindName>

const Passphrase = Type.String({
  minLength: 1,
  maxLength: 1024,
  description: 'passphrase, as text',
})
const ShareText = Type.String({
  minLength: 1,
  maxLength: 200,
  description: 'one share, as it was given out',
})

export const SealView = Exactly({
  sealId: Name,
  kind: Type.String(),
  createdAt: Time,
  /** What a person can tell the seal by: set id and threshold, PCRs, key id. */
  detail: Sentence,
})
export type SealView = Static<typeof SealView>

export const SealStatus = Exactly({
  service: SealedService,
  state: Type.Union([Type.Literal('sealed'), Type.Literal('unsealing'), Type.Literal('ok')]),
  /** Absent where the service has no root key yet. */
  generation: Type.Optional(Type.Integer()),
  seals: Type.Array(SealView),
  /** Shares collected so far. */
  shares: Type.Optional(
    Exactly({ setId: Type.String(), given: Type.Integer(), threshold: Type.Integer() }),
  ),
  /** Why it is sealed: a code and a sentence. */
  reason: Type.Optional(Exactly({ code: Type.String(), message: Sentence })),
  /** When the seals that need nobody are tried again. */
  nextTryAt: Type.Optional(Time),
})
export type SealStatus = Static<typeof SealStatus>

const NewShares = Type.Array(Type.String(), { description: 'new shares, shown this once' })

/** The root key of attestation guards the keys that sign tokens; of the others, keys that data is encrypted with. */
const NEEDS: Readonly<Record<SealedService, { readonly read: Needs; readonly change: Needs }>> = {
  attestation: {
    read: onSite('TrustedAdmin.ReadAttestingSSO'),
    change: onSite('TrustedAdmin.ManageAttestingSSO'),
  },
  'key-provider': {
    read: onSite('TrustedAdmin.ReadKMSTrust'),
    change: onSite('TrustedAdmin.ManageKMSTrust'),
  },
  'control-plane': {
    read: onSite('Cryptographer.ReadKeyServersInfo'),
    change: onSite('Cryptographer.ManageKeys'),
  },
}

/** The operations for one service. */
export function sealOperations(service: SealedService) {
  const path = `${BASE}/${service}`
  const { read, change } = NEEDS[service]
  const id = service.replace(/(^|-)([a-z])/g, (_, __, letter: string) => letter.toUpperCase())
  return {
    status: operation({
      id: `seal${id}Status`,
      needs: read,
      summary: 'Whether the service is sealed, why, and by which seals it opens',
      method: 'GET',
      path: `${path}/seal`,
      status: 200,
      answer: SealStatus,
    }),
    unseal: operation({
      id: `unseal${id}`,
      needs: change,
      summary:
        'Unseal the service: by passphrase, by one more share, or by the seals that need nobody',
      method: 'POST',
      path: `${path}/unseal`,
      status: 200,
      body: Exactly({
        passphrase: Type.Optional(Passphrase),
        share: Type.Optional(ShareText),
      }),
      answer: SealStatus,
    }),
    forgetShares: operation({
      id: `forget${id}Shares`,
      needs: change,
      summary: 'Forget the shares that were collected',
      method: 'DELETE',
      path: `${path}/shares`,
      status: 200,
      answer: SealStatus,
    }),
    seal: operation({
      id: `seal${id}`,
      needs: change,
      summary: 'Drop the keys of the service from memory; it answers nothing until it is unsealed',
      method: 'POST',
      path: `${path}/seal`,
      status: 200,
      body: Exactly({}),
      answer: SealStatus,
    }),
    rotateRoot: operation({
      id: `rotate${id}RootKey`,
      needs: change,
      summary:
        'Replace the root key and all its seals, and seal everything again under the new one',
      method: 'POST',
      path: `${path}/root-key`,
      status: 200,
      body: Exactly({ passphrase: Type.Optional(Passphrase) }),
      answer: Exactly({
        status: SealStatus,
        resealed: Type.Integer(),
        shares: Type.Optional(NewShares),
      }),
    }),
    addSeal: operation({
      id: `add${id}Seal`,
      needs: change,
      summary: 'Give the root key a seal of this kind, by default in place of those that it has',
      method: 'POST',
      path: `${path}/seals`,
      status: 201,
      body: Exactly({
        kind: SealKindName,
        passphrase: Type.Optional(Passphrase),
        threshold: Type.Optional(Type.Integer({ minimum: 2, maximum: 16 })),
        count: Type.Optional(Type.Integer({ minimum: 2, maximum: 16 })),
        keepOthers: Type.Optional(Type.Boolean()),
      }),
      answer: Exactly({ sealId: Name, status: SealStatus, shares: Type.Optional(NewShares) }),
    }),
    removeSeal: operation({
      id: `remove${id}Seal`,
      needs: change,
      summary: 'Remove a seal from the root key; not the last one',
      method: 'DELETE',
      path: `${path}/seals/:sealId`,
      status: 200,
      params: Exactly({ sealId: Name }),
      answer: SealStatus,
    }),
  } as const
}
