// SPDX-License-Identifier: MIT
// Starts the window: opens the transport, lets the stores follow the manager, draws the page.
import { mount } from 'svelte';
import './styles/tokens.css';
import './styles/base.css';
import './styles/controls.css';
import App from './App.svelte';
import { followDesktop } from './commands/menu-bar.svelte.ts';
import { startStores } from './state/start.ts';
import { openLink } from './transport/open-link.ts';

startStores(openLink());
followDesktop();
mount(App, { target: document.getElementById('app')! });
