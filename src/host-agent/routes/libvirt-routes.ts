import {
  admitStart,
  defineInLibvirt,
  endAdmission,
  mendVtpm,
  showDomain,
  startInLibvirt,
  tellLibvirtEvent,
  undefineInLibvirt,
} from '../../api/libvirt.js'
import { type App, addOperation } from '../../http/index.js'
import type { VmService } from '../vm/index.js'

const LOCAL = { access: 'local' } as const

/** VMs that libvirt runs, and what its hook asks and tells. */
export function addLibvirtRoutes(app: App, vms: VmService): void {
  addOperation(app, showDomain, LOCAL, async ({ params }) => ({
    xml: await vms.domainXml(params.vm),
  }))
  addOperation(app, defineInLibvirt, LOCAL, async ({ params }) => vms.defineInLibvirt(params.vm))
  addOperation(app, undefineInLibvirt, LOCAL, async ({ params }) =>
    vms.undefineInLibvirt(params.vm),
  )
  addOperation(app, startInLibvirt, LOCAL, async ({ params }) => vms.startInLibvirt(params.vm))
  addOperation(app, mendVtpm, LOCAL, async ({ params, body }) =>
    vms.mendVtpmInLibvirt(params.vm, body.how),
  )
  addOperation(app, admitStart, LOCAL, async ({ params, body }) => {
    await vms.admitStart(params.vm, body.seconds)
    return {}
  })
  addOperation(app, endAdmission, LOCAL, async ({ params }) => {
    await vms.endAdmission(params.vm)
    return {}
  })
  addOperation(app, tellLibvirtEvent, LOCAL, async ({ body }) => {
    await vms.onLibvirtEvent(body)
    return {}
  })
}
