import { type Static, Type } from 'typebox'
import { Exactly, Name, Time } from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const PATH = '/control-plane/v1/default-provider'

/** For which hosts a default was set: those of one cluster, or all whose cluster has none of its own. */
const From = Type.Union([Type.Literal('cluster'), Type.Literal('site')])

/** The default that is in force on a host. */
export const DefaultInForce = Exactly({ provider: Name, from: From })
export type DefaultInForce = Static<typeof DefaultInForce>

export const DefaultState = Type.Union(
  [
    Type.Literal('usable'),
    Type.Literal('not-known-here'),
    Type.Literal('not-serving'),
    Type.Literal('not-backed-up'),
  ],
  {
    description:
      'not-known-here: no native or standard provider, taken as the name of a trusted one and not checked; ' +
      'not-serving: hosts of the cluster do not get its keys',
  },
)
export type DefaultState = Static<typeof DefaultState>

const SetDefault = { provider: Name, setBy: Type.String(), setAt: Time }

export const DefaultProviders = Exactly({
  site: Type.Optional(Exactly(SetDefault)),
  clusters: Type.Array(
    Exactly({
      cluster: Name,
      own: Type.Optional(Exactly(SetDefault)),
      inForce: Type.Optional(Exactly({ ...DefaultInForce.properties, state: DefaultState })),
    }),
  ),
  note: Type.Optional(
    Type.String({ description: 'what a change did not check, in words; for a person' }),
  ),
})
export type DefaultProviders = Static<typeof DefaultProviders>

/** Without a cluster, the site. */
const Place = Exactly({ cluster: Type.Optional(Name) })

export const getDefaultProviders = operation({
  id: 'getDefaultProviders',
  needs: onSite('Cryptographer.ReadKeyServersInfo'),
  summary: 'Default key providers: of the site, of clusters, and which is in force where',
  method: 'GET',
  path: PATH,
  status: 200,
  answer: DefaultProviders,
})

export const setDefaultProvider = operation({
  id: 'setDefaultProvider',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary: 'Set the key provider that hosts use where none is named: of the site, or of a cluster',
  method: 'PUT',
  path: PATH,
  status: 200,
  query: Place,
  body: Exactly({ provider: Name }),
  answer: DefaultProviders,
  errors: ['CONFLICT', 'DEFAULT_PROVIDER', 'HOST_KEY_NOT_BACKED_UP', 'NOT_FOUND'],
  example: { provider: 'gold' },
})

export const removeDefaultProvider = operation({
  id: 'removeDefaultProvider',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary: 'Remove the default key provider of the site, or of a cluster',
  method: 'DELETE',
  path: PATH,
  status: 200,
  query: Place,
  answer: DefaultProviders,
  errors: ['NOT_FOUND'],
})
