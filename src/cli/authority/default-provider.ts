import type { Command } from 'commander'
import {
  type DefaultProviders,
  type DefaultState,
  getDefaultProviders,
  removeDefaultProvider,
  setDefaultProvider,
} from '../../api/default-provider.js'
import { table } from '../output.js'
import { addOperation } from './command.js'

interface Place {
  readonly cluster?: string
}

/** The key provider that hosts use where none is named. */
export function addDefaultProviderCommands(program: Command): void {
  const parent = program
    .command('default-provider')
    .description('key provider that hosts use where none is named: of the site and of clusters')

  addOperation(parent, {
    usage: 'show',
    operation: getDefaultProviders,
    input: () => ({}),
    text: defaultLines,
    examples: ['sigillo default-provider show', 'sigillo default-provider show --json'],
  })
  addOperation<typeof setDefaultProvider, Place>(parent, {
    usage: 'set <provider>',
    operation: setDefaultProvider,
    configure: withCluster,
    input: ([provider = ''], place) => ({ query: queryOf(place), body: { provider } }),
    text: defaultLines,
    examples: [
      'sigillo default-provider set gold',
      'sigillo default-provider set silver --cluster lab --json',
    ],
  })
  addOperation<typeof removeDefaultProvider, Place>(parent, {
    usage: 'remove',
    operation: removeDefaultProvider,
    configure: withCluster,
    input: (_, place) => ({ query: queryOf(place) }),
    text: defaultLines,
    examples: [
      'sigillo default-provider remove --cluster lab    # that of the site is in force then',
      'sigillo default-provider remove --json',
    ],
  })
}

function withCluster(command: Command): Command {
  return command.option('--cluster <name>', 'that of this cluster (default: of the site)')
}

function queryOf({ cluster }: Place): Place {
  return cluster === undefined ? {} : { cluster }
}

const STATES: Readonly<Record<DefaultState, string>> = {
  usable: 'usable',
  'not-known-here': 'trusted, not checked',
  'not-serving': 'DOES NOT SERVE THE CLUSTER',
  'not-backed-up': 'NOT BACKED UP',
}

function defaultLines({ site, clusters, note }: DefaultProviders): readonly string[] {
  return [
    `site: ${site ? `${site.provider}, set by ${site.setBy} at ${site.setAt}` : 'none'}`,
    ...table([
      ['CLUSTER', 'DEFAULT', 'OF', 'STATE', 'SET BY', 'AT'],
      ...clusters.map(({ cluster, own, inForce }) => {
        const set = own ?? (inForce ? site : undefined)
        return [
          cluster,
          inForce?.provider ?? '-',
          inForce?.from ?? '-',
          inForce ? STATES[inForce.state] : '-',
          set?.setBy ?? '-',
          set?.setAt ?? '-',
        ]
      }),
    ]),
    ...(note === undefined ? [] : [`note: ${note}`]),
  ]
}
