"""placeholder"""
def load_official(module, state, network):
    module.load_state_dict(state); return module
