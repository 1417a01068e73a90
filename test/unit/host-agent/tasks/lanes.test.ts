import { expect, test } from 'vitest'
import { readyTasks } from '../../../../src/host-agent/tasks/lanes.js'

const task = (taskId: string, kind: string, vmId?: string) => ({
  task: { taskId, kind, request: {}, ...(vmId === undefined ? {} : { vmId }) },
})
const idsOf = (ready: readonly { readonly task: { readonly taskId: string } }[]) =>
  ready.map((one) => one.task.taskId)

test('tasks on different VMs begin beside one another, on one VM in their order', () => {
  const all = [
    task('1', 'vm.stop', 'a'),
    task('2', 'vm.start', 'a'),
    task('3', 'vm.start', 'b'),
    task('4', 'vm.create'),
    task('5', 'vm.create'),
  ]
  expect(idsOf(readyTasks(all, () => true))).toEqual(['1', '3', '4', '5'])
})

test('what runs keeps those behind it waiting, and one that may not begin does too', () => {
  const all = [task('1', 'vm.stop', 'a'), task('2', 'vm.start', 'a'), task('3', 'vm.start', 'a')]
  expect(idsOf(readyTasks(all, (one) => one.task.taskId !== '1'))).toEqual([])
})

test('a clone holds the VM that it is made of, and the one that it makes', () => {
  const all = [
    task('1', 'vm.clone', 'a'),
    task('2', 'vm.start', 'a'),
    task('3', 'vm.start', '1'),
    task('4', 'vm.start', 'b'),
  ]
  expect(idsOf(readyTasks(all, () => true))).toEqual(['1', '4'])
})
