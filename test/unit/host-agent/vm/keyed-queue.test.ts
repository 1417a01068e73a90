import { expect, test } from 'vitest'
import { KeyedQueue } from '../../../../src/host-agent/vm/keyed-queue.js'

test('tasks of one key go one after another, those of another key beside them', async () => {
  const queue = new KeyedQueue()
  const events: string[] = []
  const task = (name: string, gate: Promise<void>) => async () => {
    events.push(`${name} begins`)
    await gate
    events.push(`${name} ends`)
  }
  let open = () => {}
  const gate = new Promise<void>((resolve) => {
    open = resolve
  })
  const first = queue.run('a', task('first', gate))
  const second = queue.run('a', task('second', Promise.resolve()))
  await queue.run('b', task('other', Promise.resolve()))
  open()
  await Promise.all([first, second])
  expect(events).toEqual([
    ...['first begins', 'other begins', 'other ends'],
    ...['first ends', 'second begins', 'second ends'],
  ])
})

test('a task that fails does not stop the next', async () => {
  const queue = new KeyedQueue()
  const failed = queue.run('a', () => Promise.reject(new Error('x')))
  const next = queue.run('a', async () => 'done')
  await expect(failed).rejects.toThrow('x')
  expect(await next).toBe('done')
})
