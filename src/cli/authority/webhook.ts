import type { Command } from 'commander'
import {
  type AttestationEventView,
  createWebhook,
  listAttestationEvents,
  listWebhooks,
  removeWebhook,
} from '../../api/attestation-events.js'
import { sortedBy, table } from '../output.js'
import { addOperation } from './command.js'

/** Events of the attestation service, and where they are delivered. */
export function addWebhookCommands(program: Command, host: Command): void {
  addOperation(host, {
    usage: 'events',
    operation: listAttestationEvents,
    list: 'events',
    input: () => ({ query: {} }),
    text: ({ events }) => table(events.map(eventRow)),
    examples: ['sigillo host events', 'sigillo host events --after 120 --json'],
  })

  const webhook = program
    .command('webhook')
    .description('where events of the attestation service are delivered')
  addOperation(webhook, {
    usage: 'create <url>',
    operation: createWebhook,
    input: ([url = '']) => ({ body: { url } }),
    text: ({ secret, webhook: { webhookId } }) => [
      `webhook ${webhookId}`,
      `secret  ${secret}`,
      'the secret is not shown again; deliveries are signed with it (Standard Webhooks)',
    ],
    examples: [
      'sigillo webhook create https://siem.example/sigillo',
      'sigillo webhook create https://siem.example/sigillo --json',
    ],
  })
  addOperation(webhook, {
    usage: 'list',
    operation: listWebhooks,
    list: 'webhooks',
    input: () => ({ query: {} }),
    text: ({ webhooks }) =>
      table([
        ['WEBHOOK', 'URL', 'DELIVERED', 'FAILURES', 'LAST ERROR'],
        ...sortedBy(webhooks, ({ createdAt }) => createdAt).map((w) => [
          w.webhookId,
          w.url,
          String(w.deliveredSeq),
          String(w.failures),
          w.lastError ?? '-',
        ]),
      ]),
    examples: ['sigillo webhook list', 'sigillo webhook list --json'],
  })
  addOperation(webhook, {
    usage: 'remove <id>',
    operation: removeWebhook,
    input: ([webhookId = '']) => ({ params: { webhookId } }),
    text: () => ['removed'],
    destroys: ([webhookId]) => `nothing more is delivered to ${webhookId}`,
    examples: ['sigillo webhook remove 5f0c2e9a-… --yes', 'sigillo webhook list'],
  })
}

function eventRow(event: AttestationEventView): readonly string[] {
  const { seq, at, type, hostId, cluster, detail } = event
  return [String(seq), at, type, hostId ?? '-', cluster ?? '-', JSON.stringify(detail)]
}
