import type { Command } from 'commander'
import { createTicket, listTickets, revokeTicket } from '../../api/hosts.js'
import { sortedBy, table } from '../output.js'
import { integer } from '../values.js'
import { addOperation } from './command.js'

interface CreateOptions {
  readonly cluster: string
  readonly host?: string
  readonly uses?: number
  readonly ttl?: number
}

export function addTicketCommands(program: Command): void {
  const ticket = program.command('ticket').description('tickets with which hosts enrol')

  addOperation<typeof createTicket, CreateOptions>(ticket, {
    usage: 'create',
    operation: createTicket,
    configure: (command) =>
      command
        .requiredOption('--cluster <name>', 'cluster that the hosts join')
        .option('--host <id>', 'the only host id it is good for')
        .option('--uses <n>', 'how many hosts may use it (default: 1)', integer)
        .option('--ttl <seconds>', 'how long it lives (default: one hour)', integer),
    input: (_, options) => ({
      body: {
        cluster: options.cluster,
        ...(options.host === undefined ? {} : { hostId: options.host }),
        ...(options.uses === undefined ? {} : { uses: options.uses }),
        ...(options.ttl === undefined ? {} : { ttlSeconds: options.ttl }),
      },
    }),
    text: ({ ticket: text }) => [text],
    examples: [
      'sigillo ticket create --cluster lab --host host-a > host-a.ticket',
      'sigillo ticket create --cluster lab --uses 50 --ttl 86400',
    ],
  })

  addOperation(ticket, {
    usage: 'list',
    operation: listTickets,
    list: 'tickets',
    input: () => ({ query: {} }),
    text: ({ tickets }) =>
      table([
        ['TICKET', 'CLUSTER', 'HOST', 'USES LEFT', 'EXPIRES'],
        ...sortedBy(tickets, ({ createdAt }) => createdAt).map((t) => [
          t.ticketId,
          t.cluster,
          t.hostId ?? 'any',
          String(t.usesLeft),
          t.expiresAt,
        ]),
      ]),
    examples: ['sigillo ticket list', 'sigillo ticket list --json'],
  })

  addOperation(ticket, {
    usage: 'revoke <id>',
    operation: revokeTicket,
    input: ([ticketId = '']) => ({ params: { ticketId } }),
    text: () => ['revoked'],
    examples: ['sigillo ticket revoke 0d1f…', 'sigillo ticket list && sigillo ticket revoke ID'],
  })
}
