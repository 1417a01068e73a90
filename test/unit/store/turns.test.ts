import { expect, test } from 'vitest'
import { Turns } from '../../../src/store/turns.js'

test('serves one caller at a time, in the order in which they asked', async () => {
  const turns = new Turns()
  const served: number[] = []
  let inside = 0
  await Promise.all(
    Array.from({ length: 100 }, async (_, caller) => {
      await turns.take()
      inside += 1
      expect(inside).toBe(1)
      await Promise.resolve()
      served.push(caller)
      inside -= 1
      turns.give()
    }),
  )
  expect(served).toEqual(Array.from({ length: 100 }, (_, caller) => caller))
})

test('gives timers and sockets their turn while callers wait', async () => {
  const turns = new Turns()
  let served = 0
  let servedAtTimer: number | undefined
  setImmediate(() => {
    servedAtTimer = served
  })
  await Promise.all(
    Array.from({ length: 50 }, async () => {
      await turns.take()
      served += 1
      turns.give()
    }),
  )
  expect(servedAtTimer).toBeLessThan(50)
})

test('a caller who comes between two turns does not overtake those who wait', async () => {
  const turns = new Turns()
  const served: string[] = []
  const call = async (name: string) => {
    await turns.take()
    served.push(name)
    turns.give()
  }
  await turns.take()
  const waiting = call('first')
  turns.give()
  await Promise.all([call('second'), waiting])
  expect(served).toEqual(['first', 'second'])
})
